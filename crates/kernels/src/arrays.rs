//! Arrays as the kernels see them: where operations run, element types, and arrays as plain memory.

use std::cell::Cell;

use mlx_core::host_op::{self, Failure};
use mlx_core::{Array, DeviceKind, device};

use crate::{Dtype, Layout, View, ViewMut};

thread_local! {
    static FORCE_MLX: Cell<bool> = const { Cell::new(false) };
}

/// Makes this thread's operations MLX's own on every device: the reference that the kernels are
/// compared with.
pub fn force_mlx(force: bool) {
    FORCE_MLX.set(force);
}

/// Whether [`force_mlx`] holds on this thread.
pub(crate) fn is_mlx_forced() -> bool {
    FORCE_MLX.get()
}

/// Whether this thread's operations run our CPU kernels.
pub fn on_cpu() -> mlx_core::Result<bool> {
    Ok(!FORCE_MLX.get() && device::current()? == DeviceKind::Cpu)
}

/// Whether this thread's operations run our CUDA kernels.
pub(crate) fn on_cuda() -> mlx_core::Result<bool> {
    Ok(!FORCE_MLX.get() && device::current()? == DeviceKind::Cuda)
}

/// The element type of an array, if kernels have it.
pub(crate) fn dtype(dtype: mlx_core::Dtype) -> Option<Dtype> {
    match dtype {
        mlx_core::Dtype::Bfloat16 => Some(Dtype::Bf16),
        mlx_core::Dtype::Float16 => Some(Dtype::F16),
        mlx_core::Dtype::Float32 => Some(Dtype::F32),
        _ => None,
    }
}

/// Whether kernels have the element type of every one of `arrays`.
pub(crate) fn are_floats(arrays: &[&Array]) -> bool {
    arrays.iter().all(|array| dtype(array.dtype()).is_some())
}

/// The outputs of an operation that was asked for `N`.
pub(crate) fn exactly<const N: usize>(made: Vec<Array>) -> [Array; N] {
    match made.try_into() {
        Ok(made) => made,
        Err(_) => unreachable!("an operation makes as many outputs as it was asked for"),
    }
}

/// The shape of `x` with its last axis replaced.
pub(crate) fn with_last(x: &Array, last: i32) -> Vec<i32> {
    let mut shape = x.shape().to_vec();
    if let Some(length) = shape.last_mut() {
        *length = last;
    }
    shape
}

/// An input `[.., cols]` as a matrix: all axes but the last are its rows.
pub(crate) fn matrix<'a>(input: &host_op::View<'a>) -> Result<View<'a>, Failure> {
    let (shape, strides) = (input.shape(), input.strides());
    let layout = rows_of(shape, strides)
        .zip(dtype(input.dtype()))
        .map(|((rows, cols, stride), dtype)| Layout::strided(dtype, rows, cols, stride));
    let layout = layout
        .ok_or_else(|| format!("rows of shape {shape:?}, strides {strides:?} do not lie evenly"))?;
    // SAFETY: the array's elements are computed, nothing writes them while the operation runs, and
    // each of the layout's is one of them, by its shape and strides.
    Ok(unsafe { View::from_raw(input.as_ptr(), layout) })
}

/// An output `[.., cols]` as a matrix.
pub(crate) fn matrix_mut<'a>(output: &'a mut host_op::ViewMut<'_>) -> Result<ViewMut<'a>, Failure> {
    let cols = output.shape().last().map_or(1, |&n| n as usize);
    let rows = output.size().checked_div(cols).unwrap_or(0);
    let dtype = dtype(output.dtype()).ok_or("an output that is no float")?;
    Ok(ViewMut::new(
        output.bytes_mut(),
        Layout::matrix(dtype, rows, cols),
    )?)
}

/// An input `[1, heads, L, dim]`, with whatever strides, as planes of heads.
pub(crate) fn heads_outside<'a>(input: &host_op::View<'a>) -> Result<View<'a>, Failure> {
    planes(input, [1, 2])
}

/// An input `[1, L, heads, dim]`, with whatever strides, as planes of heads.
pub(crate) fn heads_inside<'a>(input: &host_op::View<'a>) -> Result<View<'a>, Failure> {
    planes(input, [2, 1])
}

/// An input of four axes as planes and rows, which are the axes `[plane, row]`.
fn planes<'a>(input: &host_op::View<'a>, [plane, row]: [usize; 2]) -> Result<View<'a>, Failure> {
    let (shape, strides) = (input.shape(), input.strides());
    let uneven = || format!("heads of shape {shape:?}, strides {strides:?} cannot be read");
    if shape.len() != 4 || shape[0] != 1 || (strides[3] != 1 && shape[3] > 1) {
        return Err(uneven().into());
    }
    let stride = |axis: usize| usize::try_from(strides[axis]).map_err(|_| uneven());
    let layout = Layout {
        dtype: dtype(input.dtype()).ok_or_else(uneven)?,
        planes: shape[plane] as usize,
        rows: shape[row] as usize,
        cols: shape[3] as usize,
        plane_stride: stride(plane)?,
        row_stride: stride(row)?,
    };
    // SAFETY: the array's elements are computed, nothing writes them while the operation runs, and
    // each of the layout's is one of them, by its shape and strides.
    Ok(unsafe { View::from_raw(input.as_ptr(), layout) })
}

/// An output `[1, heads, L, dim]` as planes of heads.
pub(crate) fn heads_outside_mut<'a>(
    output: &'a mut host_op::ViewMut<'_>,
) -> Result<ViewMut<'a>, Failure> {
    let &[1, planes, rows, cols] = output.shape() else {
        return Err(format!("an output of shape {:?} has no heads", output.shape()).into());
    };
    let [planes, rows, cols] = [planes, rows, cols].map(|n| n as usize);
    let layout = Layout {
        dtype: dtype(output.dtype()).ok_or("an output that is no float")?,
        planes,
        rows,
        cols,
        plane_stride: rows * cols,
        row_stride: cols,
    };
    Ok(ViewMut::new(output.bytes_mut(), layout)?)
}

/// An output `[L, heads · dim]` as planes of heads.
pub(crate) fn heads_inside_mut<'a>(
    output: &'a mut host_op::ViewMut<'_>,
    planes: usize,
) -> Result<ViewMut<'a>, Failure> {
    if output.shape().len() != 2 {
        return Err(format!(
            "an output of shape {:?} has no heads inside",
            output.shape()
        )
        .into());
    }
    Ok(matrix_mut(output)?.heads(planes)?)
}

/// Rows, columns and the distance of rows, where all axes but the last can be walked as one.
fn rows_of(shape: &[i32], strides: &[i64]) -> Option<(usize, usize, usize)> {
    let ((&cols, outer), (&step, outer_strides)) = (shape.split_last()?, strides.split_last()?);
    if step != 1 && cols > 1 {
        return None;
    }
    let mut rows = 1;
    let mut stride = None;
    for (&length, &apart) in outer
        .iter()
        .zip(outer_strides)
        .rev()
        .filter(|(n, _)| **n != 1)
    {
        match stride {
            None => stride = Some(apart),
            Some(inner) if apart == inner * rows as i64 => {}
            Some(_) => return None,
        }
        rows *= length as usize;
    }
    let cols = cols as usize;
    let stride = usize::try_from(stride.unwrap_or(cols as i64)).ok()?;
    (stride >= cols || rows <= 1).then_some((rows, cols, stride))
}

#[cfg(test)]
mod tests {
    use super::rows_of;

    #[test]
    fn axes_that_lie_evenly_are_one() {
        assert_eq!(rows_of(&[2, 3, 4], &[12, 4, 1]), Some((6, 4, 4)));
        assert_eq!(rows_of(&[2, 3, 4], &[36, 12, 1]), Some((6, 4, 12)));
        assert_eq!(rows_of(&[1, 1, 4], &[96, 8, 1]), Some((1, 4, 4)));
        assert_eq!(
            rows_of(&[2, 3, 4], &[40, 12, 1]),
            None,
            "a gap between the outer ones"
        );
        assert_eq!(rows_of(&[3, 4], &[1, 3]), None, "transposed");
        assert_eq!(rows_of(&[3, 4], &[0, 1]), None, "broadcast");
    }
}
