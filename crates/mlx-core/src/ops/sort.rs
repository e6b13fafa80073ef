//! Order along an axis. Indices come as uint32; equal elements may come in any order.

use crate::ffi::array_op;
use crate::{Array, Result};

/// The index of the largest element along `axis`, the first of equals.
pub fn argmax(a: &Array, axis: i32, keepdims: bool) -> Result<Array> {
    array_op!("argmax" [a] "axis {axis}"; mlx_argmax_axis(a.raw(), axis, keepdims))
}

/// The index of the smallest element along `axis`, the first of equals.
pub fn argmin(a: &Array, axis: i32, keepdims: bool) -> Result<Array> {
    array_op!("argmin" [a] "axis {axis}"; mlx_argmin_axis(a.raw(), axis, keepdims))
}

/// The elements in ascending order along `axis`.
pub fn sort(a: &Array, axis: i32) -> Result<Array> {
    array_op!("sort" [a] "axis {axis}"; mlx_sort_axis(a.raw(), axis))
}

/// The indices that put `axis` in ascending order.
pub fn argsort(a: &Array, axis: i32) -> Result<Array> {
    array_op!("argsort" [a] "axis {axis}"; mlx_argsort_axis(a.raw(), axis))
}

/// Elements along `axis` so that the one at `kth` is in its sorted place, with none larger before
/// it and none smaller after it.
pub fn partition(a: &Array, kth: i32, axis: i32) -> Result<Array> {
    array_op!("partition" [a] "kth {kth}, axis {axis}"; mlx_partition_axis(a.raw(), kth, axis))
}

/// The indices that [`partition`] `axis` at `kth`.
pub fn argpartition(a: &Array, kth: i32, axis: i32) -> Result<Array> {
    array_op!("argpartition" [a] "kth {kth}, axis {axis}";
        mlx_argpartition_axis(a.raw(), kth, axis))
}
