//! Greedy decoding as a node of MLX's graph.

use super::drawn::Drawn;
use mlx_core::{Array, Dtype, Result, ops};

use crate::Cpu;
use crate::arrays::{are_floats, matrix, on_cpu};

/// The largest of `x` `[V]`, or of each row of `x` `[N, V]`; of several, the first.
pub fn argmax(x: &Array) -> Result<Drawn> {
    let rows = if x.ndim() == 1 { 1 } else { x.dim(0) };
    if x.ndim() == 2
        && x.size() > 0
        && let Some(drawn) = super::cuda::argmax(x)?
    {
        return Ok(drawn);
    }
    if !matches!(x.ndim(), 1 | 2) || x.size() == 0 || !are_floats(&[x]) || !on_cpu()? {
        let index = ops::argmax(x, -1, false)?;
        return Drawn::new(x, index.reshape(&[-1])?.cast(Dtype::Int32)?);
    }
    Drawn::by_kernel("argmax", &[x], rows, |inputs, row| {
        let row = matrix(&inputs[0])?.slice_rows(row..row + 1)?;
        Ok(super::argmax(Cpu::shared(), row)?)
    })
}
