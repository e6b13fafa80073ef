//! Normalisation and rotation of queries and keys as a node of MLX's graph.

use mlx_core::{Array, Result, fast, host_op};

use super::Rope;
use crate::Cpu;
use crate::graph::{heads_inside, heads_outside_mut, on_cpu};
use crate::rms_norm::graph::{Norm, norm as kernel_norm, rms_norm};

/// A rotation of half-split pairs: plane `i` turns by `scale · position / periods[i]`.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// Float32 `[head_dim / 2]`.
    pub periods: &'a Array,
    /// What positions are multiplied by.
    pub scale: f32,
    /// The position of the first token.
    pub offset: i32,
}

/// `rotate(norm(x))`: `x` is `[1, L, heads, head_dim]`, the result `[1, heads, L, head_dim]`.
pub fn norm_rope(x: &Array, norm: Norm<'_>, by: Rotation<'_>) -> Result<Array> {
    let shape = x.shape();
    let &[1, length, heads, dim] = shape else {
        return mlx(x, norm, by);
    };
    if !norm.fits(x) || by.periods.shape() != [dim / 2] || by.offset < 0 || !on_cpu()? {
        return mlx(x, norm, by);
    }
    let (eps, scale, offset) = (norm.eps, by.scale, by.offset as usize);
    let inputs = [x, norm.weight, by.periods];
    let shape = [1, heads, length, dim];
    host_op::single("norm_rope", &inputs, &shape, x.dtype(), move |inputs, y| {
        let norm = kernel_norm(&inputs[1], eps)?;
        let rope = Rope {
            periods: inputs[2].elements()?,
            scale,
            offset,
        };
        let x = heads_inside(&inputs[0])?;
        Ok(super::rope(
            Cpu::shared(),
            x,
            Some(norm),
            rope,
            heads_outside_mut(y)?,
        )?)
    })
}

fn mlx(x: &Array, norm: Norm<'_>, by: Rotation<'_>) -> Result<Array> {
    let heads_first = rms_norm(x, norm)?.transpose(&[0, 2, 1, 3])?;
    let dims = x.dim(-1);
    fast::rope(
        &heads_first,
        dims,
        false,
        None,
        by.scale,
        by.offset,
        Some(by.periods),
    )
}
