//! Products in which each row chooses its matrix: experts.

use crate::device::{self, stand_in};
use crate::ffi::{EMPTY, array_op, refusal};
use crate::{Array, DeviceKind, Dtype, Result, ops};

/// For each index the row of `x` times the transposed matrix that it names: `x` is `[.., 1, K]`, whose axes in
/// front match those of `indices` or are 1, the matrices are `w [E, N, K]`, and the result is
/// `[indices.., 1, N]`.
///
/// `sorted` says that `indices` ascend, which MLX has faster kernels for. An index outside the stack means
/// its last matrix.
pub fn gather_matmul(x: &Array, w: &Array, indices: &Array, sorted: bool) -> Result<Array> {
    if w.ndim() != 3 {
        let why = "the matrices are [E, N, K]";
        return Err(refusal("gather_matmul", &[&x, &w], String::new(), why));
    }
    // MLX's kernel for processors has float32 only.
    let on_cpu = device::current()? == DeviceKind::Cpu || stand_in::is_on_this_thread();
    if on_cpu && x.dtype() != Dtype::Float32 {
        let [x32, w] = [x.cast(Dtype::Float32)?, w.cast(Dtype::Float32)?];
        return gather_matmul(&x32, &w, indices, sorted)?.cast(x.dtype());
    }
    let indices = &matrices_of(indices, w)?;
    // MLX's kernel of CUDA for ascending indices takes row `i` of `x` for index `i`, and for the distance of
    // rows that of an axis which is one long: of an array as MLX makes it the width, of a view anything.
    let sorted = sorted && x.size() == indices.size() * x.dim(-1).unsigned_abs() as usize;
    let x = &match sorted {
        true => x.reshape(&[-1])?.reshape(x.shape())?,
        false => x.clone(),
    };
    let transposed = w.transpose(&[0, 2, 1])?;
    array_op!("gather_matmul" [x, w, indices] "sorted {sorted}";
        mlx_gather_mm(x.raw(), transposed.raw(), EMPTY, indices.raw(), sorted))
}

/// `indices` as MLX takes those of matrices, none of them behind the last of the stack `w`: it knows no
/// negative ones.
pub(crate) fn matrices_of(indices: &Array, w: &Array) -> Result<Array> {
    ops::clamped(&indices.cast(Dtype::Uint32)?, w, 0)
}
