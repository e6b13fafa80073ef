//! Normalisation, alone and with the residual sums around it, as nodes of MLX's graph.

use mlx_core::{Array, Dtype, Result, host_op, ops};

use super::Addend;
use super::cuda::Rows;
use super::norm::{Norm, norm};
use crate::Cpu;
use crate::arrays::{are_floats, exactly, matrix, matrix_mut, on_cpu};
use crate::constants::constant;

/// `norm(x)`.
pub fn rms_norm(x: &Array, by: Norm<'_>) -> Result<Array> {
    let rows = Rows {
        x,
        addend: None,
        norm: Some(by),
    };
    if let Some(made) = rows.on_gpu()? {
        let [normed] = exactly(made);
        return Ok(normed);
    }
    if !by.fits(x) || !on_cpu()? {
        return by.mlx(x);
    }
    let eps = by.eps;
    host_op::single(
        "rms_norm",
        &[x, by.weight],
        x.shape(),
        x.dtype(),
        move |inputs, y| {
            let x = matrix(&inputs[0])?;
            Ok(super::rms_norm(
                Cpu::shared(),
                x,
                norm(&inputs[1], eps)?,
                matrix_mut(y)?,
            )?)
        },
    )
}

/// `x + addend`, or `x + norm(addend)`: a residual connection. Both of one shape and dtype.
pub fn residual(x: &Array, addend: &Array, by: Option<Norm<'_>>) -> Result<Array> {
    let rows = Rows {
        x,
        addend: Some((addend, by)),
        norm: None,
    };
    if let Some(made) = rows.on_gpu()? {
        let [sum] = exactly(made);
        return Ok(sum);
    }
    let fits = x.shape() == addend.shape()
        && x.dtype() == addend.dtype()
        && are_floats(&[x])
        && by.is_none_or(|norm| norm.fits(x));
    // A float16 sum is held inside its range, which the kernel does not do.
    if !fits || x.dtype() == Dtype::Float16 || !on_cpu()? {
        let addend = by.map_or_else(|| Ok(addend.clone()), |norm| norm.mlx(addend))?;
        return bounded_add(x, &addend);
    }
    let weight = by.map(|norm| norm.weight);
    let inputs: Vec<&Array> = [x, addend].into_iter().chain(weight).collect();
    let eps = by.map(|norm| norm.eps);
    let (shape, dtype) = (x.shape(), x.dtype());
    host_op::single("residual", &inputs, shape, dtype, move |inputs, sum| {
        let addend = Addend {
            x: matrix(&inputs[1])?,
            norm: eps.map(|eps| norm(&inputs[2], eps)).transpose()?,
        };
        let x = matrix(&inputs[0])?;
        Ok(super::add_norm(Cpu::shared(), x, addend, matrix_mut(sum)?)?)
    })
}

/// [`residual`], and the norm `then` of its result: what the next part of a model works on.
pub fn residual_norm(
    x: &Array,
    addend: &Array,
    by: Option<Norm<'_>>,
    then: Norm<'_>,
) -> Result<[Array; 2]> {
    let rows = Rows {
        x,
        addend: Some((addend, by)),
        norm: Some(then),
    };
    if let Some(made) = rows.on_gpu()? {
        return Ok(exactly(made));
    }
    let sum = residual(x, addend, by)?;
    let normed = rms_norm(&sum, then)?;
    Ok([sum, normed])
}

/// `x + y`, which for float16 stays inside its range: the residual stream of some models (Gemma)
/// leaves it.
fn bounded_add(x: &Array, y: &Array) -> Result<Array> {
    if x.dtype() != Dtype::Float16 {
        return ops::add(x, y);
    }
    let limit = 65504.0; // the largest float16
    let bound = |v: f64| constant(v, Dtype::Float32);
    let sum = ops::add(&x.cast(Dtype::Float32)?, &y.cast(Dtype::Float32)?)?;
    let held = ops::maximum(&ops::minimum(&sum, &bound(limit)?)?, &bound(-limit)?)?;
    held.cast(Dtype::Float16)
}
