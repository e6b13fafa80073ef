//! Alternating updates, and what stands beside the attention in a layer that has them (Gemma 3n): see
//! [`arch::AltUp`]. Streams are mixed in float32.

use std::sync::Arc;

use kernels::graph::{self, Coefficients};
use mlx_core::{Array, Dtype, ops};

use super::{Linear, RmsNorm};
use crate::Result;
use crate::weights::Source;

/// What makes one stream of several, and back.
pub(crate) struct AltUp {
    router_norm: RmsNorm,
    router: Linear,
    router_scale: f64,
    /// Float32 `[streams * streams, streams]` and `[streams, streams]`.
    prediction: Array,
    correction: Array,
    /// Float32 `[hidden]`.
    output_scale: Option<Array>,
    /// The same as numbers.
    coefficients: Coefficients,
    laurel: Laurel,
}

/// A map of low rank.
struct Laurel {
    left: Linear,
    right: Linear,
    norm: RmsNorm,
}

/// What a layer makes of the active stream.
pub(super) struct Corrected {
    /// The active stream, scaled, `[L, hidden]` in the dtype of the activations.
    pub(super) active: Array,
    /// All streams, float32 `[L, streams, hidden]`.
    all: Array,
}

impl AltUp {
    pub(super) fn load(source: &Source<'_>, altup: &arch::AltUp<String>) -> Result<Self> {
        let wide = |array: Array| -> Result<Array> { Ok(array.cast(Dtype::Float32)?) };
        let matrix = |linear| Linear::as_stored(source, linear)?.plain_in_float32();
        let (prediction, correction) = (matrix(&altup.prediction)?, matrix(&altup.correction)?);
        let output_scale = match &altup.output_scale {
            Some(name) => Some(wide(source.vector(name, 1.0)?)?),
            None => None,
        };
        let numbers = |array: &Array| Ok::<_, crate::Error>(Arc::from(array.to_vec::<f32>()?));
        let laurel = &altup.laurel;
        Ok(Self {
            router_norm: RmsNorm::load(source, &altup.router_norm)?.in_float32()?,
            router: Linear::as_stored(source, &altup.router)?,
            router_scale: altup.router_scale,
            coefficients: Coefficients {
                streams: altup.streams,
                active: altup.active,
                prediction: numbers(&prediction)?,
                correction: numbers(&correction)?,
                output_scale: output_scale.as_ref().map(numbers).transpose()?,
            },
            prediction,
            correction,
            output_scale,
            laurel: Laurel {
                left: Linear::load(source, &laurel.left)?,
                right: Linear::load(source, &laurel.right)?,
                norm: RmsNorm::load(source, &laurel.norm)?,
            },
        })
    }

    fn streams(&self) -> i32 {
        self.coefficients.streams as i32
    }

    /// The active stream of `x [L, streams * hidden]`, `[L, hidden]`.
    pub(super) fn active(&self, x: &Array) -> Result<Array> {
        let (length, hidden) = (x.dim(0), x.dim(1) / self.streams());
        let first = self.coefficients.active as i32 * hidden;
        Ok(x.slice(&[0, first], &[length, first + hidden])?
            .contiguous()?)
    }

    /// What is predicted of `x [L, streams * hidden]`, as large.
    pub(super) fn predict(&self, x: &Array) -> Result<Array> {
        let (length, n) = (x.dim(0), self.streams());
        let parts = self.coefficients_of(&self.prediction, &self.active(x)?)?;
        let parts = parts.reshape(&[length, n, n, 1])?;
        let streams = x.cast(Dtype::Float32)?.reshape(&[length, 1, n, -1])?;
        let hidden = streams.dim(-1);
        let mut sum = streams.reshape(&[length, n, hidden])?;
        for k in 0..n {
            let part = parts.slice(&[0, 0, k, 0], &[length, n, k + 1, 1])?;
            let stream = streams.slice(&[0, 0, k, 0], &[length, 1, k + 1, hidden])?;
            let part = part.reshape(&[length, n, 1])?;
            let stream = stream.reshape(&[length, 1, hidden])?;
            sum = ops::add(&sum, &ops::mul(&part, &stream)?)?;
        }
        Ok(sum.reshape(x.shape())?.cast(x.dtype())?)
    }

    /// The streams `predicted [L, streams * hidden]` by what the layer made of the active one, `activated
    /// [L, hidden]`.
    pub(super) fn correct(&self, predicted: &Array, activated: &Array) -> Result<Corrected> {
        let (length, n) = (predicted.dim(0), self.streams());
        let wide = |array: &Array| array.cast(Dtype::Float32);
        let factors = self.coefficients_of(&self.correction, activated)?;
        let factors = ops::add(&factors, &Array::scalar(1.0f32)?)?;
        let more = ops::sub(&wide(activated)?, &wide(&self.active(predicted)?)?)?;
        let more = ops::mul(&factors.expand_dims(-1)?, &more.expand_dims(1)?)?;
        let all = ops::add(&wide(predicted)?.reshape(&[length, n, -1])?, &more)?;
        let a = self.coefficients.active as i32;
        let active = all.slice(&[0, a, 0], &[length, a + 1, all.dim(2)])?;
        let active = active.reshape(&[length, -1])?;
        let active = match &self.output_scale {
            Some(scale) => ops::mul(&active, scale)?,
            None => active,
        };
        Ok(Corrected {
            active: active.cast(predicted.dtype())?,
            all,
        })
    }

    /// `matrix [N, streams]` times what is said of the rows of `x [L, hidden]`: `[L, N]`, float32.
    fn coefficients_of(&self, matrix: &Array, x: &Array) -> Result<Array> {
        let normed = self.router_norm.forward(&x.cast(Dtype::Float32)?)?;
        let routed = self.router.forward_in_float32(&normed)?;
        let scale = Array::scalar(self.router_scale as f32)?;
        let said = ops::tanh(&ops::mul(&routed, &scale)?)?;
        // No product of MLX: a row's sum of a few terms then has one order, whatever the number of rows.
        let terms = ops::mul(&said.expand_dims(1)?, matrix)?;
        Ok(ops::sum(&terms, &[-1], false)?)
    }

    /// Normalized rows `x [L, hidden]`, and their map of low rank.
    pub(super) fn laurel(&self, x: &Array) -> Result<Array> {
        let Laurel { left, right, norm } = &self.laurel;
        let out = right.forward(&left.forward(x)?)?;
        Ok(graph::residual(x, &out, Some(norm.as_norm()))?)
    }

    /// For operations that have it in them.
    pub(super) fn as_one(&self) -> graph::AltUp<graph::Linear<'_>, graph::Norm<'_>> {
        graph::AltUp {
            router_norm: self.router_norm.as_norm(),
            router: self.router.as_linear(),
            router_scale: self.router_scale as f32,
            coefficients: self.coefficients.clone(),
            laurel: graph::Laurel {
                left: self.laurel.left.as_linear(),
                right: self.laurel.right.as_linear(),
                norm: self.laurel.norm.as_norm(),
            },
        }
    }

    /// The linear maps of rows.
    pub(super) fn linears(&self) -> [&Linear; 3] {
        [&self.router, &self.laurel.left, &self.laurel.right]
    }

    /// What is made of a row of one stream of `hidden` beside the products, in numbers of float32: predictions,
    /// corrections, and sums of both on the way.
    pub(super) fn numbers_a_row(&self, hidden: usize) -> usize {
        6 * self.coefficients.streams * hidden
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let Laurel { left, right, norm } = &self.laurel;
        let mut arrays = vec![&self.prediction, &self.correction];
        arrays.extend(&self.output_scale);
        arrays.extend(
            [&self.router, left, right]
                .into_iter()
                .flat_map(Linear::arrays),
        );
        arrays.extend(
            [&self.router_norm, norm]
                .into_iter()
                .flat_map(RmsNorm::arrays),
        );
        arrays
    }
}

impl Corrected {
    /// All streams, to all of which but the first `added [L, hidden]` is added: `[L, streams * hidden]` in the dtype
    /// of the activations, inside its range.
    pub(super) fn with(self, added: Option<&Array>) -> Result<Array> {
        let (dtype, all) = (self.active.dtype(), self.all);
        let (length, n, hidden) = (all.dim(0), all.dim(1), all.dim(2));
        let all = match added {
            Some(added) if n > 1 => {
                let first = all.slice(&[0, 0, 0], &[length, 1, hidden])?;
                let others = all.slice(&[0, 1, 0], &[length, n, hidden])?;
                let added = added.cast(Dtype::Float32)?.expand_dims(1)?;
                ops::concatenate(&[&first, &ops::add(&others, &added)?], 1)?
            }
            _ => all,
        };
        let all = match dtype {
            Dtype::Float16 => {
                let bound = |x: f32| Array::scalar(x);
                ops::maximum(&ops::minimum(&all, &bound(65504.0)?)?, &bound(-65504.0)?)?
            }
            _ => all,
        };
        Ok(all.reshape(&[length, n * hidden])?.cast(dtype)?)
    }
}
