//! Root-mean-square normalization (arXiv:1910.07467).

use kernels::graph::{self, Norm};
use mlx_core::{Array, Dtype, ops};

use crate::Result;
use crate::weights::Loader;

/// `x / rms(x) * weight` over the last axis.
pub(crate) struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    pub(crate) fn load(at: &Loader<'_>, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: at.floats("weight")?,
            eps,
        })
    }

    /// Gemma stores the weight minus one. One is added in float32, whatever the dtype: bfloat16
    /// has too few digits to add exactly.
    pub(crate) fn load_centered(at: &Loader<'_>, eps: f32) -> Result<Self> {
        let weight = at.raw("weight")?.cast(Dtype::Float32)?;
        let weight = ops::add(&weight, &Array::scalar(1.0f32)?)?.cast(at.dtype())?;
        weight.eval()?;
        Ok(Self { weight, eps })
    }

    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        Ok(graph::rms_norm(x, self.as_norm())?)
    }

    /// For operations that have a norm in them.
    pub(crate) fn as_norm(&self) -> Norm<'_> {
        Norm {
            weight: &self.weight,
            eps: self.eps,
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        vec![&self.weight]
    }
}
