//! [`Array`]: a reference to an MLX array, and what can be asked of it.
//!
//! MLX is lazy: an operation returns a node of a graph, with its shape and dtype but no data, and
//! [`eval`] or [`async_eval`] computes it. So nearly every mistake (shapes, dtypes, axes) is an
//! `Err` of the operation, while running out of memory is an `Err` of the evaluation. What an
//! evaluation that failed leaves in its arrays is not defined: drop them.
//!
//! An `Array` stays on its thread (see `stream.rs` for why). The raw pointer inside makes it neither
//! `Send` nor `Sync`, which this example must not get past the compiler:
//!
//! ```compile_fail,E0277
//! fn on_another_thread(x: mlx_core::Array) {
//!     std::thread::spawn(move || x.ndim());
//! }
//! ```

mod create;
mod read;
mod shape;

use std::alloc::{Layout, handle_alloc_error};
use std::fmt;
use std::slice;

use mlx_sys::mlx_array;

pub use create::Bytes;
pub(crate) use create::check_shape;

use crate::ffi::{ArrayVec, EMPTY, api, list_failure, op_failure, refusal};
use crate::{Dtype, Result, submit};

/// A reference to an n-dimensional array of MLX.
///
/// Cloning gives another reference to the same array, and costs an increment.
pub struct Array {
    raw: mlx_array,
}

impl Array {
    /// Takes over a handle that a call filled; it is not null.
    pub(crate) fn from_raw(raw: mlx_array) -> Array {
        debug_assert!(!raw.ctx.is_null());
        Array { raw }
    }

    /// The handle, valid while `self` is.
    pub(crate) fn raw(&self) -> mlx_array {
        self.raw
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[i32] {
        let ndim = self.ndim();
        // SAFETY: the handle is alive.
        let data = unsafe { api().mlx_array_shape(self.raw) };
        if ndim == 0 || data.is_null() {
            return &[];
        }
        // SAFETY: MLX keeps `ndim` lengths at `data` for as long as the array lives, which is at
        // least as long as this handle, and never changes them.
        unsafe { slice::from_raw_parts(data, ndim) }
    }

    /// The length of one axis; a negative axis counts from the end.
    ///
    /// # Panics
    /// If there is no such axis, as indexing a slice would.
    pub fn dim(&self, axis: i32) -> i32 {
        let shape = self.shape();
        let index = if axis < 0 {
            axis + shape.len() as i32
        } else {
            axis
        };
        match usize::try_from(index).ok().and_then(|i| shape.get(i)) {
            Some(&length) => length,
            None => panic!("axis {axis} of an array of shape {shape:?}"),
        }
    }

    /// The number of axes.
    pub fn ndim(&self) -> usize {
        // SAFETY: the handle is alive.
        unsafe { api().mlx_array_ndim(self.raw) }
    }

    /// The number of elements.
    pub fn size(&self) -> usize {
        // SAFETY: the handle is alive.
        unsafe { api().mlx_array_size(self.raw) }
    }

    /// The number of bytes of its elements laid out densely.
    pub fn nbytes(&self) -> usize {
        self.size() * self.dtype().size()
    }

    /// Computes this array, and says whether its elements lie densely in row-major order.
    pub fn is_dense(&self) -> Result<bool> {
        self.eval()?;
        let shape = self.shape();
        // SAFETY: the handle is alive, and an array that is computed has strides.
        let strides = unsafe { api().mlx_array_strides(self.raw) };
        if shape.is_empty() || strides.is_null() {
            return Ok(shape.is_empty());
        }
        // SAFETY: MLX keeps a stride for each axis, as long as the array lives.
        let strides = unsafe { slice::from_raw_parts(strides, shape.len()) };
        let mut dense = 1;
        Ok(shape.iter().zip(strides).rev().all(|(&length, &stride)| {
            let fits = length == 1 || stride == dense;
            dense *= length as usize;
            fits
        }))
    }

    /// Waits for this array, which was submitted; an `Err` if it was not. [`Array::eval`] would submit
    /// it, and an operation that failed would be tried again.
    pub fn wait(&self) -> Result<()> {
        submit::finish_all()?;
        // SAFETY: the handle is alive.
        match unsafe { submit::is_there(self.raw) } {
            Ok(true) => Ok(()),
            Ok(false) => Err(refusal(
                "wait",
                &[&self],
                String::new(),
                "it is not submitted",
            )),
            Err(_) => Err(op_failure("wait", &[&self], String::new())),
        }
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        // SAFETY: the handle is alive.
        Dtype::from_raw(unsafe { api().mlx_array_dtype(self.raw) })
    }

    /// Computes this array and waits for it.
    pub fn eval(&self) -> Result<()> {
        let vec = ArrayVec::new("eval", &[self])?;
        match submit::compute(&vec, std::iter::once(self.raw)) {
            0 => Ok(()),
            _ => Err(op_failure("eval", &[&self], String::new())),
        }
    }
}

impl Clone for Array {
    fn clone(&self) -> Array {
        let mut raw = EMPTY;
        // SAFETY: `self.raw` is alive; `raw` is empty and becomes a second reference to its array.
        let status = unsafe { api().mlx_array_set(&mut raw, self.raw) };
        if status != 0 || raw.ctx.is_null() {
            // Only the few bytes of the new handle can have been missing.
            handle_alloc_error(Layout::new::<mlx_array>());
        }
        Array { raw }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: the handle is owned here and freed once.
        unsafe { api().mlx_array_free(self.raw) };
    }
}

impl fmt::Debug for Array {
    /// Dtype and shape; the elements may not be computed yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype(), self.shape())
    }
}

/// Computes several arrays and waits for them.
pub fn eval(arrays: &[&Array]) -> Result<()> {
    let vec = ArrayVec::new("eval", arrays)?;
    match submit::compute(&vec, arrays.iter().map(|array| array.raw)) {
        0 => Ok(()),
        _ => Err(list_failure("eval", arrays, String::new())),
    }
}

/// Submits several arrays for computing and does not wait.
///
/// A failure while computing is reported by the call that later waits for one of them.
pub fn async_eval(arrays: &[&Array]) -> Result<()> {
    let vec = ArrayVec::new("async_eval", arrays)?;
    match submit::submit(&vec) {
        0 => Ok(()),
        _ => Err(list_failure("async_eval", arrays, String::new())),
    }
}
