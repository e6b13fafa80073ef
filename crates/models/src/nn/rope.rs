//! Rotary position embedding (arXiv:2104.09864), its wavelengths computed once, in float64.

use kernels::graph::Rotation;
use mlx_core::Array;

use crate::Result;

/// The rotation of one kind of layer.
pub(crate) struct RotaryEmbedding {
    /// `1 / inv_freq`, float32 `[head_dim / 2]`: what MLX calls `freqs`.
    periods: Array,
    position_scale: f32,
    attention_factor: f64,
}

impl RotaryEmbedding {
    pub(crate) fn new(rope: &arch::Rope) -> Result<Self> {
        let periods: Vec<f32> = rope.periods().into_iter().map(|p| p as f32).collect();
        Ok(Self {
            periods: Array::from_slice(&periods, &[periods.len() as i32])?,
            position_scale: rope.position_scale() as f32,
            attention_factor: rope.attention_factor(),
        })
    }

    /// Features of a head that are rotated.
    pub(crate) fn dims(&self) -> i32 {
        2 * self.periods.dim(-1)
    }

    /// What scores must be multiplied by, if heads are rotated whole. YaRN multiplies the rotated queries and the rotated keys
    /// by its attention factor; their product has it squared, which costs nothing in the scale.
    pub(crate) fn score_factor(&self) -> f64 {
        self.attention_factor * self.attention_factor
    }

    /// The rotation of tokens from position `offset` on.
    pub(crate) fn at(&self, offset: i32) -> Rotation<'_> {
        Rotation {
            periods: &self.periods,
            scale: self.position_scale,
            offset,
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        vec![&self.periods]
    }
}
