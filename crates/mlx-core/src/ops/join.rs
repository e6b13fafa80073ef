//! Joining, splitting and repeating.

use crate::ffi::{ArrayVec, api, array_op, list_failure, op_failure};
use crate::stream::Stream;
use crate::{Array, Result};

/// The arrays one after the other along an axis they have.
pub fn concatenate(arrays: &[&Array], axis: i32) -> Result<Array> {
    let vec = ArrayVec::new("concatenate", arrays)?;
    array_list_op("concatenate", arrays, axis, |out, stream| {
        // SAFETY: the vector and the stream are alive; `out` is empty and becomes ours.
        unsafe { api().mlx_concatenate_axis(out, vec.raw(), axis, stream.raw()) }
    })
}

/// The arrays, all of one shape, along a new axis.
pub fn stack(arrays: &[&Array], axis: i32) -> Result<Array> {
    let vec = ArrayVec::new("stack", arrays)?;
    array_list_op("stack", arrays, axis, |out, stream| {
        // SAFETY: the vector and the stream are alive; `out` is empty and becomes ours.
        unsafe { api().mlx_stack_axis(out, vec.raw(), axis, stream.raw()) }
    })
}

fn array_list_op(
    op: &'static str,
    arrays: &[&Array],
    axis: i32,
    call: impl FnOnce(&mut mlx_sys::mlx_array, Stream) -> std::ffi::c_int,
) -> Result<Array> {
    let mut out = crate::ffi::EMPTY;
    if call(&mut out, Stream::current(op)?) == 0 {
        Ok(Array::from_raw(out))
    } else {
        Err(list_failure(op, arrays, format!("axis {axis}")))
    }
}

/// `parts` equal parts of `axis`.
pub fn split(a: &Array, parts: i32, axis: i32) -> Result<Vec<Array>> {
    let stream = Stream::current("split")?;
    let mut out = ArrayVec::empty();
    // SAFETY: the handles are alive; `out` is empty and becomes ours.
    let status = unsafe { api().mlx_split(out.raw_mut(), a.raw(), parts, axis, stream.raw()) };
    if status != 0 {
        return Err(op_failure(
            "split",
            &[&a],
            format!("{parts} parts, axis {axis}"),
        ));
    }
    out.to_vec("split")
}

/// The parts of `axis` that begin at 0 and at each of `indices`.
pub fn split_at(a: &Array, indices: &[i32], axis: i32) -> Result<Vec<Array>> {
    let stream = Stream::current("split_at")?;
    let mut out = ArrayVec::empty();
    // SAFETY: the handles and the slice are alive; `out` is empty and becomes ours.
    let status = unsafe {
        api().mlx_split_sections(
            out.raw_mut(),
            a.raw(),
            indices.as_ptr(),
            indices.len(),
            axis,
            stream.raw(),
        )
    };
    if status != 0 {
        return Err(op_failure(
            "split_at",
            &[&a],
            format!("at {indices:?}, axis {axis}"),
        ));
    }
    out.to_vec("split_at")
}

/// The whole array `reps[i]` times along each axis `i`.
pub fn tile(a: &Array, reps: &[i32]) -> Result<Array> {
    array_op!("tile" [a] "reps {reps:?}"; mlx_tile(a.raw(), reps.as_ptr(), reps.len()))
}

/// Each element `repeats` times in a row along `axis`.
pub fn repeat(a: &Array, repeats: i32, axis: i32) -> Result<Array> {
    array_op!("repeat" [a] "{repeats} times, axis {axis}";
        mlx_repeat_axis(a.raw(), repeats, axis))
}
