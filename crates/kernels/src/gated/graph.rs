//! The gate of an MLP as a node of MLX's graph.

use std::f64::consts::PI;

use mlx_core::{Array, Result, host_op, ops};

use super::{Activation, cuda, metal};
use crate::Cpu;
use crate::arrays::{are_floats, matrix, matrix_mut, on_cpu};
use crate::columns::Columns;
use crate::constants::constant;

/// `activation(gate) · up`, both of as many rows and columns, and of one dtype.
pub fn gated(activation: Activation, gate: &Columns, up: &Columns) -> Result<Array> {
    if let Some(made) = cuda::gated(activation, gate, up)? {
        return Ok(made);
    }
    let (gate, up) = (&gate.to_array()?, &up.to_array()?);
    if let Some(made) = metal::gated(activation, gate, up)? {
        return Ok(made);
    }
    let fits = gate.shape() == up.shape() && gate.dtype() == up.dtype() && gate.ndim() >= 1;
    if !fits || !are_floats(&[gate]) || !on_cpu()? {
        return mlx(activation, gate, up);
    }
    host_op::single(
        "gated",
        &[gate, up],
        gate.shape(),
        gate.dtype(),
        move |inputs, y| {
            let (gate, up) = (matrix(&inputs[0])?, matrix(&inputs[1])?);
            Ok(super::gated(
                Cpu::shared(),
                activation,
                gate,
                up,
                matrix_mut(y)?,
            )?)
        },
    )
}

fn mlx(activation: Activation, x: &Array, up: &Array) -> Result<Array> {
    let scalar = |v: f64| constant(v, x.dtype());
    let gate = match activation {
        Activation::Silu => ops::mul(x, &ops::sigmoid(x)?),
        Activation::Clamped { limit, alpha } => {
            let [most, least] = [limit, -limit].map(|limit| scalar(limit.into()));
            let (most, least) = (most?, least?);
            let gate = ops::minimum(x, &most)?;
            let up = ops::maximum(&ops::minimum(up, &most)?, &least)?;
            let up = ops::add(&up, &scalar(1.0)?)?;
            let sigmoid = ops::sigmoid(&ops::mul(&gate, &scalar(alpha.into())?)?)?;
            return ops::mul(&ops::mul(&gate, &sigmoid)?, &up);
        }
        Activation::GeluTanh => {
            let cube = ops::mul(&ops::mul(x, x)?, x)?;
            let inner = ops::add(x, &ops::mul(&cube, &scalar(0.044715)?)?)?;
            let inner = ops::mul(&inner, &scalar((2.0 / PI).sqrt())?)?;
            let gate = ops::add(&ops::tanh(&inner)?, &scalar(1.0)?)?;
            ops::mul(&ops::mul(x, &scalar(0.5)?)?, &gate)
        }
    };
    ops::mul(&gate?, up)
}
