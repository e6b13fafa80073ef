//! What can go wrong, as one type.
//!
//! MLX reports a failure as a string, mlx-c as a status and a callback. Neither says which of a
//! model's three hundred products failed, so each failing call is reported here as a reader of the
//! model would write it: the operation, the dtype and shape of each operand, the parameters, and
//! then MLX's own words:
//!
//! ```text
//! matmul(float32[2, 3], float32[4, 5]): Last dimension of first input with shape (2,3) must match …
//! ```
//!
//! The text is built when a call fails, never before: the hot loop pays nothing for it.

use std::fmt;

use crate::{Array, Dtype};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of an array operation, of the device, or of the native library.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// MLX refused or failed an operation.
    #[error("{op}({call}): {message}")]
    Op {
        /// The operation's name, as in [`crate::ops`].
        op: &'static str,
        /// Its operands (dtype and shape each) and parameters.
        call: Call,
        /// MLX's explanation.
        message: String,
    },

    /// Elements were asked for as another type than the array holds.
    #[error("{op}: the array is {found}, {wanted} was asked for; cast it first")]
    Dtype {
        /// What was being done.
        op: &'static str,
        /// The dtype asked for.
        wanted: Dtype,
        /// The array's dtype.
        found: Dtype,
    },

    /// A number that the dtype cannot hold, such as 1.5 as an int32.
    #[error("{value} is not a value of dtype {dtype}")]
    Value {
        /// The number.
        value: f64,
        /// The dtype it was to become.
        dtype: Dtype,
    },

    /// A name that is none of those listed.
    #[error("unknown {what} {given:?}; expected one of {expected}")]
    Name {
        /// What was being named, such as "device".
        what: &'static str,
        /// The name given.
        given: String,
        /// The names there are.
        expected: &'static str,
    },

    /// An operation ran before [`crate::device::open`].
    #[error("{op}: no device is open; call mlx_core::device::open first")]
    NotOpen {
        /// What was being done.
        op: &'static str,
    },

    /// The device asked for is not there, or is not what the process has loaded.
    #[error("{device}: {reason}")]
    Device {
        /// The device asked for.
        device: &'static str,
        /// What is missing and how to get it.
        reason: String,
    },

    /// A GPU has too little memory left.
    #[error("out of memory: {needed} bytes are needed on the GPU, {available} are free")]
    OutOfMemory {
        /// Bytes needed, some of them for the driver.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },

    /// A CUDA kernel could not be compiled.
    #[error("cannot compile the CUDA kernels of {module}:\n{reason}")]
    Compile {
        /// The name that the module was given.
        module: String,
        /// The compiler's log.
        reason: String,
    },

    /// The native library could not be loaded.
    #[error("{0}")]
    Native(String),
}

/// The operands and parameters of a call, as [`Error::Op`] shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// Dtype and shape of each array operand.
    pub operands: Vec<Operand>,
    /// The other arguments, such as `axis=3`; may be empty.
    pub params: String,
}

/// An operand of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operand {
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<i32>,
}

impl Call {
    pub(crate) fn new<'a>(arrays: impl IntoIterator<Item = &'a Array>, params: String) -> Call {
        let operands = arrays
            .into_iter()
            .map(|a| Operand {
                dtype: a.dtype(),
                shape: a.shape().to_vec(),
            })
            .collect();
        Call { operands, params }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A stack of a thousand rows is not worth a thousand shapes on one line.
        const SHOWN: usize = 6;
        let mut separator = "";
        for Operand { dtype, shape } in self.operands.iter().take(SHOWN) {
            write!(f, "{separator}{dtype}{shape:?}")?;
            separator = ", ";
        }
        if let Some(more @ 1..) = self.operands.len().checked_sub(SHOWN) {
            write!(f, "{separator}and {more} more")?;
        }
        if !self.params.is_empty() {
            write!(f, "{separator}{}", self.params)?;
        }
        Ok(())
    }
}
