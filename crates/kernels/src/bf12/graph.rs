//! Products with encoded matrices as nodes of MLX's graph.

use std::sync::Arc;

use mlx_core::host_op::{self, Pinned};
use mlx_core::{Array, Dtype, Result};

use super::Bf12;
use super::cuda::Units;
use crate::Cpu;
use crate::arrays::{matrix, matrix_mut, on_cpu, on_cuda, with_last};
use crate::matmul::graph::matmuls;

/// A bfloat16 matrix `[N, K]` in 12 bits an element, on the device where it was encoded.
#[derive(Clone)]
pub enum Encoded {
    /// For our CPU kernels.
    Host(Arc<Bf12>),
    /// For our CUDA kernels.
    Cuda(Units),
}

impl Encoded {
    /// N.
    pub fn rows(&self) -> usize {
        match self {
            Self::Host(w) => w.rows(),
            Self::Cuda(w) => w.rows(),
        }
    }

    /// K.
    pub fn cols(&self) -> usize {
        match self {
            Self::Host(w) => w.cols(),
            Self::Cuda(w) => w.cols(),
        }
    }

    /// Bytes of memory.
    pub fn nbytes(&self) -> usize {
        match self {
            Self::Host(w) => w.nbytes(),
            Self::Cuda(w) => w.nbytes(),
        }
    }
}

/// `w [N, K]`, encoded if this device has kernels for it and it can be done without loss: see
/// [`Bf12::encode`] and [`Units`]. It waits for `w`.
pub fn encode_bf12(w: &Array) -> Result<Option<Encoded>> {
    if w.ndim() != 2 || w.dtype() != Dtype::Bfloat16 {
        return Ok(None);
    }
    if on_cuda()? {
        return Ok(Units::encode(w)?.map(Encoded::Cuda));
    }
    let cpu = Cpu::shared();
    if !(Bf12::pays(cpu.isa()) && on_cpu()?) {
        return Ok(None);
    }
    let pinned = Pinned::new(w)?;
    let encoded = matrix(&pinned.view())
        .ok()
        .and_then(|w| Bf12::encode(cpu, w));
    Ok(encoded.map(|w| Encoded::Host(Arc::new(w))))
}

/// `x wᵀ` for each of `ws`: `x` is `[.., K]`, a result `[.., N]` in the dtype of `x`, which is one of
/// floats, and bfloat16 on a GPU. Several that share an `x` cost one fork of the CPU's threads.
pub fn bf12_matmuls(x: &Array, ws: &[&Encoded]) -> Result<Vec<Array>> {
    let mut on_host = Vec::new();
    for w in ws {
        if let Encoded::Host(w) = w {
            on_host.push(w);
        }
    }
    let mut on_host = host_matmuls(x, &on_host)?.into_iter();
    let mut products = Vec::with_capacity(ws.len());
    for w in ws {
        products.extend(match w {
            Encoded::Host(_) => on_host.next(),
            Encoded::Cuda(w) => matmuls(x, &[&w.unpacked()?])?.pop(),
        });
    }
    Ok(products)
}

fn host_matmuls(x: &Array, ws: &[&Arc<Bf12>]) -> Result<Vec<Array>> {
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
pub fn bf12_rows(w: &Encoded, ids: &Array) -> Result<Array> {
    let w = match w {
        Encoded::Host(w) => Arc::clone(w),
        Encoded::Cuda(w) => return w.rows_at(ids),
    };
    let shape = [ids.dim(0), w.cols as i32];
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
