//! The memory of an array, for host operations that read it without naming it as an input.

use mlx_sys::mlxb_view;

use super::View;
use crate::ffi::{api, refusal};
use crate::{Array, Result};

/// A computed, dense array whose memory any thread may read.
///
/// A node of the graph costs time for each of its inputs. What never changes, the weights of a model,
/// can be pinned once and held by the closures that read it.
#[derive(Debug)]
pub struct Pinned {
    view: mlxb_view,
    /// What `view` points to.
    _shape: Box<[i32]>,
    _strides: Box<[i64]>,
    /// Keeps the memory, and, being a second reference, keeps MLX from giving it to a result.
    _array: Array,
}

// SAFETY: the memory is computed and is only read, through `view`. Of `_array` nothing is used but
// its drop, which counts down an atomic reference count.
unsafe impl Send for Pinned {}
// SAFETY: as above; `&Pinned` gives shared views only.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Computes the array and pins it. Fails for an array with gaps or in another order.
    pub fn new(array: &Array) -> Result<Self> {
        array.eval()?;
        if !array.is_row_contiguous()? {
            let reason = "only a dense array can be pinned; make it contiguous";
            return Err(refusal("pin", &[array], String::new(), reason));
        }
        let shape: Box<[i32]> = array.shape().into();
        let mut strides = vec![1_i64; shape.len()].into_boxed_slice();
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * i64::from(shape[i]);
        }
        // SAFETY: the handle is alive. MLX casts its pointer to the type in the function's name
        // without looking at the dtype, so this is the address of the first element's first byte.
        let data = unsafe { api().mlx_array_data_uint8(array.raw()) };
        let view = mlxb_view {
            data: data.cast_mut().cast(),
            shape: shape.as_ptr(),
            strides: strides.as_ptr(),
            ndim: shape.len(),
            size: array.size(),
            dtype: array.dtype().to_raw(),
            row_contiguous: true,
        };
        Ok(Self {
            view,
            _shape: shape,
            _strides: strides,
            _array: array.clone(),
        })
    }

    /// The array, as an input would be seen.
    pub fn view(&self) -> View<'_> {
        View::new(&self.view)
    }
}
