//! Drawing a token as a node of MLX's graph.

use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, Result, host_op};

use super::Filters;
use crate::Cpu;
use crate::graph::{are_floats, matrix, on_cpu};

/// Draws from `logits` `[V]`: the index as int32 `[1]`. `None` where the kernels do not serve, and
/// MLX's own operations have to.
pub fn draw(logits: &Array, filters: &Filters, key: &Key) -> Result<Option<Array>> {
    if logits.ndim() != 1 || logits.size() == 0 || !are_floats(&[logits]) || !on_cpu()? {
        return Ok(None);
    }
    let uniform = random::uniform(key, 0.0, 1.0, &[1], Dtype::Float32)?;
    let filters = *filters;
    let drawn = host_op::single(
        "draw",
        &[logits, &uniform],
        &[1],
        Dtype::Int32,
        move |inputs, y| {
            let uniform = inputs[1].elements::<f32>()?[0];
            let index = super::draw(Cpu::shared(), matrix(&inputs[0])?, &filters, uniform)?;
            y.elements_mut::<i32>()?[0] = i32::try_from(index)?;
            Ok(())
        },
    )?;
    Ok(Some(drawn))
}
