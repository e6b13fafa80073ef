//! Picking and placing elements by index, and masks by position. Indices are integer arrays; a
//! negative one counts from the end. MLX does not check them: one outside the axis reads or writes
//! somewhere else, so whoever takes indices from outside must check them first.

use crate::ffi::array_op;
use crate::{Array, Result};

/// The slices of `a` along `axis` that `indices` names, in its shape.
pub fn take(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    array_op!("take" [a, indices] "axis {axis}"; mlx_take_axis(a.raw(), indices.raw(), axis))
}

/// For each position, the element of `a` at the index given for it along `axis`.
pub fn take_along_axis(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    array_op!("take_along_axis" [a, indices] "axis {axis}";
        mlx_take_along_axis(a.raw(), indices.raw(), axis))
}

/// `a` with `values` placed at `indices` along `axis`.
pub fn put_along_axis(a: &Array, indices: &Array, values: &Array, axis: i32) -> Result<Array> {
    array_op!("put_along_axis" [a, indices, values] "axis {axis}";
        mlx_put_along_axis(a.raw(), indices.raw(), values.raw(), axis))
}

/// The last two axes with what lies above diagonal `k` zeroed.
pub fn tril(a: &Array, k: i32) -> Result<Array> {
    array_op!("tril" [a] "k {k}"; mlx_tril(a.raw(), k))
}

/// The last two axes with what lies below diagonal `k` zeroed.
pub fn triu(a: &Array, k: i32) -> Result<Array> {
    array_op!("triu" [a] "k {k}"; mlx_triu(a.raw(), k))
}
