//! The gates of the MLPs.

use std::f64::consts::PI;

use mlx_core::{Array, ops};

use crate::Result;

/// The function between the gate projection and the product.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation (arXiv:1606.08415).
    GeluTanh,
}

impl Activation {
    pub(crate) fn apply(self, x: &Array) -> Result<Array> {
        Ok(match self {
            Self::Silu => ops::mul(x, &ops::sigmoid(x)?)?,
            Self::GeluTanh => {
                let scalar = |v: f64| Array::scalar_of(v, x.dtype());
                let cube = ops::mul(&ops::mul(x, x)?, x)?;
                let inner = ops::add(x, &ops::mul(&cube, &scalar(0.044715)?)?)?;
                let inner = ops::mul(&inner, &scalar((2.0 / PI).sqrt())?)?;
                let gate = ops::add(&ops::tanh(&inner)?, &scalar(1.0)?)?;
                ops::mul(&ops::mul(x, &scalar(0.5)?)?, &gate)?
            }
        })
    }
}
