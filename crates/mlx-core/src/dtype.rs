//! Element types: MLX's run-time [`Dtype`] and the Rust types that stand for it.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::{Error, Result};

/// The type of an array's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "each variant says what it is")]
pub enum Dtype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    Float32,
    Float64,
    Bfloat16,
    Complex64,
}

/// Every dtype with MLX's name and its size in bytes, in the order of mlx-c's enum.
const TABLE: [(Dtype, &str, usize); 14] = [
    (Dtype::Bool, "bool", 1),
    (Dtype::Uint8, "uint8", 1),
    (Dtype::Uint16, "uint16", 2),
    (Dtype::Uint32, "uint32", 4),
    (Dtype::Uint64, "uint64", 8),
    (Dtype::Int8, "int8", 1),
    (Dtype::Int16, "int16", 2),
    (Dtype::Int32, "int32", 4),
    (Dtype::Int64, "int64", 8),
    (Dtype::Float16, "float16", 2),
    (Dtype::Float32, "float32", 4),
    (Dtype::Float64, "float64", 8),
    (Dtype::Bfloat16, "bfloat16", 2),
    (Dtype::Complex64, "complex64", 8),
];

impl Dtype {
    /// The size of one element, in bytes.
    pub fn size(self) -> usize {
        TABLE[self as usize].2
    }

    /// Whether this is a real floating type: float16, bfloat16, float32 or float64.
    pub fn is_floating(self) -> bool {
        matches!(
            self,
            Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32 | Dtype::Float64
        )
    }

    /// mlx-c's number for this dtype.
    pub(crate) fn to_raw(self) -> mlx_sys::mlx_dtype {
        self as mlx_sys::mlx_dtype
    }

    /// The dtype that mlx-c numbers `raw`.
    pub(crate) fn from_raw(raw: mlx_sys::mlx_dtype) -> Dtype {
        TABLE[raw as usize].0
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(TABLE[*self as usize].1)
    }
}

impl FromStr for Dtype {
    type Err = Error;

    /// Reads MLX's name for a dtype, such as `bfloat16`.
    fn from_str(name: &str) -> Result<Dtype> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0).ok_or_else(|| Error::Name {
            what: "dtype",
            given: name.to_owned(),
            expected: "bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float16, \
                       float32, float64, bfloat16, complex64",
        })
    }
}

mod sealed {
    pub trait Sealed: Sized {
        /// Copies `len` elements that start at `data`, at any alignment.
        ///
        /// # Safety
        /// `data` points at `len` elements of this type, readable for the call.
        unsafe fn read(data: *const u8, len: usize) -> Vec<Self>;
    }
}

/// A Rust type that an array's elements can be read and written as.
pub trait Element: Copy + sealed::Sealed + 'static {
    /// The dtype of arrays of this type.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {
            unsafe fn read(data: *const u8, len: usize) -> Vec<Self> {
                let mut out = Vec::<Self>::with_capacity(len);
                // SAFETY: the caller vouches for `len` elements at `data`; the vector has room for
                // them, every bit pattern is a value of this plain number type, and copying as
                // bytes needs no alignment.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        data,
                        out.as_mut_ptr().cast::<u8>(),
                        len * size_of::<Self>(),
                    );
                    out.set_len(len);
                }
                out
            }
        }
        impl Element for $rust {
            const DTYPE: Dtype = Dtype::$dtype;
        }
    )*};
}

elements! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Float16, bf16 => Bfloat16, f32 => Float32, f64 => Float64,
}

impl sealed::Sealed for bool {
    unsafe fn read(data: *const u8, len: usize) -> Vec<bool> {
        // Bytes of a file may be neither 0 nor 1, which a Rust bool must be.
        // SAFETY: the caller vouches for `len` bytes at `data`.
        unsafe { u8::read(data, len) }
            .into_iter()
            .map(|byte| byte != 0)
            .collect()
    }
}

impl Element for bool {
    const DTYPE: Dtype = Dtype::Bool;
}
