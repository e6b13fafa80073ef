//! Drawing a token as a node of MLX's graph.

use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, Result};

use super::Filters;
use crate::Cpu;
use crate::argmax::drawn::Drawn;
use crate::arrays::{are_floats, matrix, on_cpu};

/// Draws from `logits` `[V]`. `None` where the kernels do not serve, and MLX's own operations have to.
pub fn draw(logits: &Array, filters: &Filters, key: &Key) -> Result<Option<Drawn>> {
    if logits.ndim() != 1 || logits.size() == 0 || !are_floats(&[logits]) || !on_cpu()? {
        return Ok(None);
    }
    let uniform = random::uniform(key, 0.0, 1.0, &[1], Dtype::Float32)?;
    let filters = *filters;
    Drawn::by_kernel("draw", &[logits, &uniform], 1, move |inputs, _| {
        let uniform = inputs[1].elements::<f32>()?[0];
        Ok(super::draw(
            Cpu::shared(),
            matrix(&inputs[0])?,
            &filters,
            uniform,
        )?)
    })
    .map(Some)
}
