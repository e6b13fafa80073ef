//! Root-mean-square normalization (arXiv:1910.07467).

use kernels::graph::{self, Norm};
use mlx_core::{Array, Dtype, ops};

use crate::Result;
use crate::weights::Source;

/// `x / rms(x) * weight` over the last axis.
pub(crate) struct RmsNorm {
    weight: Array,
    eps: f32,
}

impl RmsNorm {
    /// Where the weight is stored less one, one is added in float32, whatever the dtype: bfloat16
    /// has too few digits to add exactly.
    pub(crate) fn load(source: &Source<'_>, norm: &arch::Norm<String>) -> Result<Self> {
        Self::load_with(source, norm, None)
    }

    /// The same, of which the first so many weights are multiplied by a factor, in float32 as well.
    pub(crate) fn load_with(
        source: &Source<'_>,
        norm: &arch::Norm<String>,
        first: Option<(usize, f64)>,
    ) -> Result<Self> {
        let centered = norm.centered && !source.has_whole_norms();
        let around = if centered { 0.0 } else { 1.0 };
        let mut weight = source.vector(&norm.weight, around)?;
        if centered {
            let one = Array::scalar(1.0f32)?;
            weight = ops::add(&weight.cast(Dtype::Float32)?, &one)?;
        }
        if let Some((count, factor)) = first {
            let factors = (0..norm.width).map(|i| if i < count { factor as f32 } else { 1.0 });
            let factors: Vec<f32> = factors.collect();
            let factors = Array::from_slice(&factors, &[norm.width as i32])?;
            weight = ops::mul(&weight.cast(Dtype::Float32)?, &factors)?;
        }
        if centered || first.is_some() {
            weight = weight.cast(source.dtype())?;
            weight.eval()?;
        }
        Ok(Self {
            weight: source.cast(weight)?,
            eps: norm.eps,
        })
    }

    /// In float32, whatever the dtype of the activations.
    pub(crate) fn load_wide(source: &Source<'_>, norm: &arch::Norm<String>) -> Result<Self> {
        let weight = source.vector(&norm.weight, 1.0)?.cast(Dtype::Float32)?;
        weight.eval()?;
        Ok(Self {
            weight,
            eps: norm.eps,
        })
    }

    /// One without a weight: it is of ones.
    pub(crate) fn of_ones(source: &Source<'_>, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: Array::ones(&[width as i32], source.dtype())?,
            eps,
        })
    }

    /// The same with weights in float32.
    pub(crate) fn in_float32(self) -> Result<Self> {
        Ok(Self {
            weight: self.weight.cast(Dtype::Float32)?,
            ..self
        })
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
