//! A matrix, dense or quantized, with or without a bias.

use kernels::graph;
use mlx_core::quant::{self, Scheme};
use mlx_core::{Array, Dtype, ops};

use crate::Result;
use crate::weights::{Loader, Stored};

/// The weights of a linear map from `in` to `out` features.
pub(crate) enum Matrix {
    /// Floats `[out, in]`.
    Dense(Array),
    /// Packed words, with scales and, for the affine mode, biases.
    Quantized {
        weight: Array,
        scales: Array,
        biases: Option<Array>,
        scheme: Scheme,
    },
}

impl Matrix {
    pub(crate) fn load(at: &Loader<'_>) -> Result<Self> {
        match at.stored()? {
            Stored::Dense => Ok(Self::Dense(at.floats("weight")?)),
            Stored::Quantized(scheme) => {
                // The scales of mxfp4, mxfp8 and nvfp4 are bytes with a meaning of their own.
                let affine = scheme.mode == quant::Mode::Affine;
                Ok(Self::Quantized {
                    weight: at.raw("weight")?,
                    scales: if affine {
                        at.floats("scales")?
                    } else {
                        at.raw("scales")?
                    },
                    biases: if affine {
                        Some(at.floats("biases")?)
                    } else {
                        None
                    },
                    scheme,
                })
            }
        }
    }

    /// `x [.., in]` to `[.., out]`.
    pub(crate) fn apply(&self, x: &Array) -> Result<Array> {
        Ok(match self {
            Self::Dense(weight) => graph::matmul(x, weight)?,
            Self::Quantized {
                weight,
                scales,
                biases,
                scheme,
            } => graph::quantized_matmul(x, weight, scales, biases.as_ref(), scheme)?,
        })
    }

    /// The rows at `ids [L]`, as floats `[L, in]` of `dtype`. Rows are gathered before they are
    /// dequantized, so the cost is that of L rows and not of the whole table.
    pub(crate) fn rows(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        Ok(match self {
            Self::Dense(weight) => ops::take(weight, ids, 0)?,
            Self::Quantized {
                weight,
                scales,
                biases,
                scheme,
            } => {
                let biases = biases.as_ref().map(|b| ops::take(b, ids, 0)).transpose()?;
                quant::dequantize(
                    &ops::take(weight, ids, 0)?,
                    &ops::take(scales, ids, 0)?,
                    biases.as_ref(),
                    scheme,
                    Some(dtype),
                )?
            }
        })
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(weight) => vec![weight],
            Self::Quantized {
                weight,
                scales,
                biases,
                ..
            } => [weight, scales].into_iter().chain(biases).collect(),
        }
    }
}

/// `x W^T + b`.
pub(crate) struct Linear {
    matrix: Matrix,
    bias: Option<Array>,
}

impl Linear {
    pub(crate) fn load(at: &Loader<'_>, bias: bool) -> Result<Self> {
        let bias = if bias { Some(at.floats("bias")?) } else { None };
        Ok(Self {
            matrix: Matrix::load(at)?,
            bias,
        })
    }

    /// `x [.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let y = self.matrix.apply(x)?;
        match &self.bias {
            Some(bias) => Ok(ops::add(&y, bias)?),
            None => Ok(y),
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.matrix.arrays().into_iter().chain(&self.bias).collect()
    }
}
