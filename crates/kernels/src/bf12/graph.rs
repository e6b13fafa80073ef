//! Products with encoded matrices as nodes of MLX's graph.

use std::sync::Arc;

use mlx_core::host_op::{self, Pinned};
use mlx_core::{Array, Dtype, Result};

use super::Bf12;
use crate::graph::{matrix, matrix_mut, on_cpu, with_last};
use crate::{Cpu, Isa};

/// `w [N, K]`, encoded if that makes its products faster on this device and can be done without
/// loss: see [`Bf12::encode`]. It waits for `w`.
pub fn encode_bf12(w: &Array) -> Result<Option<Arc<Bf12>>> {
    let cpu = Cpu::shared();
    let fits = w.ndim() == 2 && w.dtype() == Dtype::Bfloat16;
    if !(fits && cpu.isa() == Isa::Avx512Bf16 && on_cpu()?) {
        return Ok(None);
    }
    let pinned = Pinned::new(w)?;
    let encoded = matrix(&pinned.view())
        .ok()
        .and_then(|w| Bf12::encode(cpu, w));
    Ok(encoded.map(Arc::new))
}

/// `x wᵀ` for each of `ws`: `x` is `[.., K]`, a result `[.., N]` in the dtype of `x`, which is one of
/// floats. Several that share an `x` cost one fork of the threads.
pub fn bf12_matmuls(x: &Array, ws: &[&Arc<Bf12>]) -> Result<Vec<Array>> {
    if ws.is_empty() {
        return Ok(Vec::new());
    }
    let shapes: Vec<Vec<i32>> = ws.iter().map(|w| with_last(x, w.rows as i32)).collect();
    let specs: Vec<(&[i32], Dtype)> = shapes.iter().map(|s| (&s[..], x.dtype())).collect();
    let ws: Vec<Arc<Bf12>> = ws.iter().map(|w| Arc::clone(w)).collect();
    host_op::call("bf12_matmul", &[x], &specs, move |inputs, outputs| {
        let mut parts = Vec::with_capacity(ws.len());
        for (w, y) in ws.iter().zip(outputs) {
            parts.push((&**w, matrix_mut(y)?));
        }
        let x = matrix(&inputs[0])?;
        Ok(super::bf12_matmuls(Cpu::shared(), x, &mut parts)?)
    })
}

/// The rows of `w` at `ids`, int32 `[L]`, as bfloat16 `[L, K]`: an embedding.
pub fn bf12_rows(w: &Arc<Bf12>, ids: &Array) -> Result<Array> {
    let shape = [ids.dim(0), w.cols as i32];
    let w = Arc::clone(w);
    host_op::single(
        "bf12_rows",
        &[ids],
        &shape,
        Dtype::Bfloat16,
        move |inputs, y| {
            // A negative id becomes a row that is not there.
            let ids = inputs[0].elements::<i32>()?;
            let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
            Ok(super::bf12_rows(Cpu::shared(), &w, &rows, matrix_mut(y)?)?)
        },
    )
}
