//! The dense product as a node of MLX's graph.

use mlx_core::{Array, Result, host_op, ops};

use crate::Cpu;
use crate::graph::{are_floats, matrix, matrix_mut, on_cpu, with_last};

/// `x wᵀ`: `x` is `[.., K]`, `w` is `[N, K]`, the result `[.., N]` in the dtype of `x`.
pub fn matmul(x: &Array, w: &Array) -> Result<Array> {
    let fits = w.ndim() == 2 && x.ndim() >= 1 && x.dim(-1) == w.dim(1);
    if !fits || !are_floats(&[x, w]) || !on_cpu()? {
        return ops::matmul(x, &w.t()?);
    }
    let shape = with_last(x, w.dim(0));
    host_op::single("matmul", &[x, w], &shape, x.dtype(), |inputs, y| {
        let (x, w) = (matrix(&inputs[0])?, matrix(&inputs[1])?);
        Ok(super::matmul(Cpu::shared(), x, w, matrix_mut(y)?)?)
    })
}
