//! The views and conversions that read best as methods; [`crate::ops`] has the rest.

use crate::ffi::{array_op, refusal};
use crate::{Array, Dtype, Result};

impl Array {
    /// The elements converted to `dtype`; the array itself if it has that dtype.
    pub fn cast(&self, dtype: Dtype) -> Result<Array> {
        array_op!("cast" [self] "to {dtype}"; mlx_astype(self.raw(), dtype.to_raw()))
    }

    /// The same bytes read as `dtype`; the last axis shrinks or grows with the element size.
    pub fn view(&self, dtype: Dtype) -> Result<Array> {
        array_op!("view" [self] "as {dtype}"; mlx_view(self.raw(), dtype.to_raw()))
    }

    /// The same elements in another shape; one axis may be -1, which is worked out.
    pub fn reshape(&self, shape: &[i32]) -> Result<Array> {
        if shape.iter().any(|&length| length < -1) {
            let params = format!("to {shape:?}");
            return Err(refusal("reshape", &[self], params, "a length is negative"));
        }
        array_op!("reshape" [self] "to {shape:?}";
            mlx_reshape(self.raw(), shape.as_ptr(), shape.len()))
    }

    /// The axes in another order: axis `i` of the result is axis `axes[i]` of this array.
    pub fn transpose(&self, axes: &[i32]) -> Result<Array> {
        array_op!("transpose" [self] "axes {axes:?}";
            mlx_transpose_axes(self.raw(), axes.as_ptr(), axes.len()))
    }

    /// The axes in reverse order; of a matrix, its transpose.
    pub fn t(&self) -> Result<Array> {
        array_op!("t" [self]; mlx_transpose(self.raw()))
    }

    /// Two axes exchanged.
    pub fn swap_axes(&self, a: i32, b: i32) -> Result<Array> {
        array_op!("swap_axes" [self] "{a}, {b}"; mlx_swapaxes(self.raw(), a, b))
    }

    /// A new axis of length 1, which becomes axis `axis` of the result.
    pub fn expand_dims(&self, axis: i32) -> Result<Array> {
        array_op!("expand_dims" [self] "axis {axis}"; mlx_expand_dims(self.raw(), axis))
    }

    /// Without axis `axis`, which must have length 1.
    pub fn squeeze(&self, axis: i32) -> Result<Array> {
        array_op!("squeeze" [self] "axis {axis}"; mlx_squeeze_axis(self.raw(), axis))
    }

    /// The axes from `start` to `end`, both included, as one.
    pub fn flatten(&self, start: i32, end: i32) -> Result<Array> {
        array_op!("flatten" [self] "axes {start} to {end}"; mlx_flatten(self.raw(), start, end))
    }

    /// The elements laid out densely in row-major order.
    pub fn contiguous(&self) -> Result<Array> {
        array_op!("contiguous" [self]; mlx_contiguous(self.raw(), false))
    }

    /// The part from `start` to `stop` of every axis. A negative bound counts from the end, and one
    /// beyond the axis is cut to it, as in Python.
    pub fn slice(&self, start: &[i32], stop: &[i32]) -> Result<Array> {
        self.slice_strided(start, stop, &vec![1; start.len()])
    }

    /// Every `strides[i]`-th element from `start[i]` to `stop[i]` of each axis `i`; a negative
    /// stride walks backwards.
    pub fn slice_strided(&self, start: &[i32], stop: &[i32], strides: &[i32]) -> Result<Array> {
        if strides.contains(&0) {
            let params = format!("{start:?} to {stop:?} by {strides:?}");
            return Err(refusal("slice", &[self], params, "a stride is zero"));
        }
        array_op!("slice" [self] "{start:?} to {stop:?} by {strides:?}"; mlx_slice(
            self.raw(),
            start.as_ptr(), start.len(),
            stop.as_ptr(), stop.len(),
            strides.as_ptr(), strides.len(),
        ))
    }

    /// This array with the part from `start` to `stop` replaced by `update`, which is broadcast to
    /// it. Done in place where nothing else refers to this array's buffer.
    pub fn slice_update(&self, update: &Array, start: &[i32], stop: &[i32]) -> Result<Array> {
        let strides = vec![1; start.len()];
        array_op!("slice_update" [self, update] "{start:?} to {stop:?}"; mlx_slice_update(
            self.raw(),
            update.raw(),
            start.as_ptr(), start.len(),
            stop.as_ptr(), stop.len(),
            strides.as_ptr(), strides.len(),
        ))
    }

    /// Repeated along new axes and axes of length 1, without a copy, until it has this shape.
    pub fn broadcast_to(&self, shape: &[i32]) -> Result<Array> {
        array_op!("broadcast_to" [self] "{shape:?}";
            mlx_broadcast_to(self.raw(), shape.as_ptr(), shape.len()))
    }
}
