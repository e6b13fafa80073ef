//! Dense products as a node of MLX's graph.

use mlx_core::host_op::{self, Failure};
use mlx_core::{Array, Dtype, Result, ops};

use crate::Cpu;
use crate::arrays::{are_floats, matrix, matrix_mut, on_cpu, with_last};

/// `x wᵀ` for each of `ws`: `x` is `[.., K]`, a `w` is `[N, K]`, its result `[.., N]` in the dtype of
/// `x`. Several that share an `x` cost one fork of the threads.
pub fn matmuls(x: &Array, ws: &[&Array]) -> Result<Vec<Array>> {
    let fits =
        |w: &&Array| w.ndim() == 2 && x.ndim() >= 1 && x.dim(-1) == w.dim(1) && are_floats(&[x, w]);
    if ws.is_empty() || !ws.iter().all(fits) || !on_cpu()? {
        return ws.iter().map(|w| ops::matmul(x, &w.t()?)).collect();
    }
    let shapes: Vec<Vec<i32>> = ws.iter().map(|w| with_last(x, w.dim(0))).collect();
    let specs: Vec<(&[i32], Dtype)> = shapes.iter().map(|s| (&s[..], x.dtype())).collect();
    let inputs: Vec<&Array> = std::iter::once(x).chain(ws.iter().copied()).collect();
    host_op::call("matmul", &inputs, &specs, |inputs, outputs| {
        let parts = inputs[1..].iter().zip(outputs);
        let parts = parts.map(|(w, y)| Ok((matrix(w)?, matrix_mut(y)?)));
        let mut parts: Vec<_> = parts.collect::<Result<_, Failure>>()?;
        Ok(super::matmuls(
            Cpu::shared(),
            matrix(&inputs[0])?,
            &mut parts,
        )?)
    })
}
