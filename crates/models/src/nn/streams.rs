//! The ends of several residual streams (Gemma 3n): see [`arch::Streams`]. Between them a row has its streams side by
//! side, `[L, streams * hidden]`.

use mlx_core::{Array, Dtype, ops};

use super::Linear;
use crate::Result;
use crate::weights::Source;

/// What makes several streams of an embedding, and one of them in the end.
pub(crate) struct Streams {
    projections: Vec<Linear>,
    unprojections: Vec<Linear>,
    /// The least mean square that a projection counts for.
    least: f32,
}

impl Streams {
    pub(crate) fn load(source: &Source<'_>, streams: &arch::Streams<String>) -> Result<Self> {
        let all = |linears: &[arch::Linear<String>]| {
            let linears = linears.iter();
            let linears = linears.map(|linear| Linear::load(source, linear));
            linears.collect::<Result<Vec<Linear>>>()
        };
        Ok(Self {
            projections: all(&streams.projections)?,
            unprojections: all(&streams.unprojections)?,
            least: streams.least as f32,
        })
    }

    /// Embeddings `x [L, hidden]` to all streams.
    pub(crate) fn begin(&self, x: &Array) -> Result<Array> {
        let magnitude = magnitude(&mean_square(x)?)?;
        let mut streams = vec![x.clone()];
        for projection in &self.projections {
            let wide = self.matched(&projection.forward(x)?, &magnitude)?;
            streams.push(wide.cast(x.dtype())?);
        }
        Ok(ops::concatenate(&streams.iter().collect::<Vec<_>>(), 1)?)
    }

    /// All streams to one, `[L, hidden]`.
    pub(crate) fn end(&self, x: &Array) -> Result<Array> {
        let streams = ops::split(x, 1 + self.unprojections.len() as i32, 1)?;
        let Some((first, others)) = streams.split_first() else {
            return Ok(x.clone());
        };
        let magnitude = magnitude(&mean_square(first)?)?;
        let mut sum = first.cast(Dtype::Float32)?;
        for (stream, unprojection) in others.iter().zip(&self.unprojections) {
            let stream = unprojection.forward(&stream.contiguous()?)?;
            sum = ops::add(&sum, &self.matched(&stream, &magnitude)?)?;
        }
        let share = (1.0 + others.len() as f32).recip();
        Ok(ops::mul(&sum, &Array::scalar(share)?)?.cast(x.dtype())?)
    }

    /// `x` with the root mean square `magnitude [L, 1]`, in float32.
    fn matched(&self, x: &Array, magnitude: &Array) -> Result<Array> {
        let own = ops::maximum(&mean_square(x)?, &Array::scalar(self.least)?)?;
        let factor = ops::div(magnitude, &ops::sqrt(&own)?)?;
        Ok(ops::mul(&x.cast(Dtype::Float32)?, &factor)?)
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let linears = self.projections.iter().chain(&self.unprojections);
        linears.flat_map(Linear::arrays).collect()
    }
}

/// Of each row of `x [L, hidden]`, float32 `[L, 1]`.
fn mean_square(x: &Array) -> Result<Array> {
    let square = ops::square(&x.cast(Dtype::Float32)?)?;
    Ok(ops::mean(&square, &[-1], true)?)
}

fn magnitude(mean_square: &Array) -> Result<Array> {
    Ok(ops::sqrt(mean_square)?)
}
