//! Picking and placing elements by index, and masks by position. Indices are integer arrays; a
//! negative one counts from the end.
//!
//! MLX does not check them, and one outside the axis would read or write somewhere else. Their values
//! are not known before the graph runs, so they are clamped there: one too far on either side means
//! the element at that end.

use crate::ffi::{array_op, refusal};
use crate::{Array, Dtype, Result, ops};

/// The slices of `a` along `axis` that `indices` names, in its shape.
pub fn take(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    let indices = inside("take", indices, a, axis)?;
    // SAFETY: they were clamped to this axis.
    unsafe { take_unchecked(a, &indices, axis) }
}

/// [`take`] without two operations on the indices.
///
/// # Safety
/// When the graph runs, each index is one of the axis, or negative and not more than its length.
pub unsafe fn take_unchecked(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    array_op!("take" [a, indices] "axis {axis}"; mlx_take_axis(a.raw(), indices.raw(), axis))
}

/// For each position, the element of `a` at the index given for it along `axis`.
pub fn take_along_axis(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    let indices = &inside("take_along_axis", indices, a, axis)?;
    array_op!("take_along_axis" [a, indices] "axis {axis}";
        mlx_take_along_axis(a.raw(), indices.raw(), axis))
}

/// `a` with `values` placed at `indices` along `axis`.
pub fn put_along_axis(a: &Array, indices: &Array, values: &Array, axis: i32) -> Result<Array> {
    let indices = &inside("put_along_axis", indices, a, axis)?;
    array_op!("put_along_axis" [a, indices, values] "axis {axis}";
        mlx_put_along_axis(a.raw(), indices.raw(), values.raw(), axis))
}

/// `indices`, none of them outside `axis` of `a`.
///
/// Fails where they are no integers, or there is no index that would be inside.
pub fn clamped(indices: &Array, a: &Array, axis: i32) -> Result<Array> {
    inside("clamped", indices, a, axis)
}

/// [`clamped`] for an operation.
fn inside(op: &'static str, indices: &Array, a: &Array, axis: i32) -> Result<Array> {
    let refused = |why: &str| refusal(op, &[a, indices], format!("axis {axis}"), why);
    let rank = a.ndim() as i32;
    if !(-rank..rank).contains(&axis) {
        return Err(refused("there is no such axis"));
    }
    let length = a.dim(axis);
    if length == 0 && indices.size() > 0 {
        return Err(refused("the axis has no elements"));
    }
    let dtype = indices.dtype();
    // No index of a type can be beyond what the type does not hold.
    let (least, most) = match dtype {
        Dtype::Bool => return inside(op, &indices.cast(Dtype::Uint8)?, a, axis),
        Dtype::Uint8 => (0, i32::from(u8::MAX)),
        Dtype::Uint16 => (0, i32::from(u16::MAX)),
        Dtype::Uint32 | Dtype::Uint64 => (0, i32::MAX),
        Dtype::Int8 => (i32::from(i8::MIN), i32::from(i8::MAX)),
        Dtype::Int16 => (i32::from(i16::MIN), i32::from(i16::MAX)),
        Dtype::Int32 | Dtype::Int64 => (i32::MIN, i32::MAX),
        _ => return Err(refused("indices are integers")),
    };
    let mut inside = indices.clone();
    if length <= most {
        let last = Array::scalar_of(f64::from(length - 1), dtype)?;
        inside = ops::minimum(&inside, &last)?;
    }
    if least < -length {
        let first = Array::scalar_of(f64::from(-length), dtype)?;
        inside = ops::maximum(&inside, &first)?;
    }
    Ok(inside)
}

/// The last two axes with what lies above diagonal `k` zeroed.
pub fn tril(a: &Array, k: i32) -> Result<Array> {
    array_op!("tril" [a] "k {k}"; mlx_tril(a.raw(), k))
}

/// The last two axes with what lies below diagonal `k` zeroed.
pub fn triu(a: &Array, k: i32) -> Result<Array> {
    array_op!("triu" [a] "k {k}"; mlx_triu(a.raw(), k))
}
