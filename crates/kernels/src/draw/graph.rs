//! Drawing tokens as a node of MLX's graph.

use mlx_core::{Array, Dtype, Result};

use super::Row;
use crate::argmax::drawn::Drawn;
use crate::arrays::{are_floats, matrix, on_cpu};
use crate::{Cpu, Layout, View};

/// Draws from each row of `logits` `[N, V]` what `pick` says of it and its number: `None` where the logits are not
/// numbers. `None` where the kernels do not serve.
pub fn draw_each(
    logits: &Array,
    mut pick: impl FnMut(Row<'_>, usize) -> Option<usize> + Send + 'static,
) -> Result<Option<Drawn>> {
    if logits.ndim() != 2 || logits.size() == 0 || !are_floats(&[logits]) || !on_cpu()? {
        return Ok(None);
    }
    let made = Drawn::by_kernel("draw", &[logits], logits.dim(0), move |inputs, row| {
        let logits = matrix(&inputs[0])?.slice_rows(row..row + 1)?;
        Ok(pick(Row::read(Cpu::shared(), logits)?, row))
    })?;
    Ok(Some(made))
}

/// Lets `work` look at `logits` `[V]` or `[1, V]`, which this waits for, on the processor. On any device.
///
/// # Errors
/// When the device fails.
pub fn on_host<T>(logits: &Array, work: impl FnOnce(Row<'_>) -> T) -> Result<T> {
    let values = logits.cast(Dtype::Float32)?.to_vec::<f32>()?;
    let layout = Layout::matrix(crate::Dtype::F32, 1, values.len());
    // SAFETY: the layout's elements are those of `values`, which lives as long as the view.
    let row = unsafe { View::from_raw(values.as_ptr().cast(), layout) };
    let row = Row::read(Cpu::shared(), row);
    row.map(work)
        .map_err(|error| mlx_core::Error::Native(error.to_string()))
}
