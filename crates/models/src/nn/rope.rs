//! Rotary position embedding (arXiv:2104.09864) with the stretches of its wavelengths that these
//! families use. The wavelengths are computed once, in float64, for every kind alike.

use std::f64::consts::PI;

use kernels::graph::Rotation;
use mlx_core::Array;

use crate::Result;
use crate::config::{RopeParameters, RopeScaling};

/// The rotation of one kind of layer.
pub(crate) struct Rope {
    /// `1 / inv_freq`, float32 `[head_dim / 2]`: what MLX calls `freqs`.
    periods: Array,
    position_scale: f32,
    attention_factor: f64,
}

impl Rope {
    pub(crate) fn new(parameters: &RopeParameters, head_dim: usize) -> Result<Self> {
        let periods = rotary_periods(parameters, head_dim);
        let periods: Vec<f32> = periods.into_iter().map(|p| p as f32).collect();
        let (position_scale, attention_factor) = match parameters.scaling {
            RopeScaling::Linear { factor } => ((1.0 / factor) as f32, 1.0),
            RopeScaling::Yarn {
                attention_factor, ..
            } => (1.0, attention_factor),
            RopeScaling::None | RopeScaling::Llama3 { .. } => (1.0, 1.0),
        };
        Ok(Self {
            periods: Array::from_slice(&periods, &[periods.len() as i32])?,
            position_scale,
            attention_factor,
        })
    }

    /// What scores must be multiplied by. YaRN multiplies the rotated queries and the rotated keys
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

/// Positions a radian for each of the `head_dim / 2` planes.
pub(crate) fn rotary_periods(parameters: &RopeParameters, head_dim: usize) -> Vec<f64> {
    let inv_freq = inverse_frequencies(parameters, head_dim);
    inv_freq.into_iter().map(|f| 1.0 / f).collect()
}

/// Radians a position for each of the `head_dim / 2` planes.
fn inverse_frequencies(parameters: &RopeParameters, head_dim: usize) -> Vec<f64> {
    let theta = parameters.theta;
    let plain: Vec<f64> = (0..head_dim / 2)
        .map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64))
        .collect();
    match parameters.scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => plain,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original,
        } => plain
            .iter()
            .map(|&f| {
                let turns = original * f / (2.0 * PI);
                if turns > high_freq_factor {
                    f
                } else if turns < low_freq_factor {
                    f / factor
                } else {
                    let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            })
            .collect(),
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_position_embeddings: original,
            truncate,
            ..
        } => {
            // The plane that makes `turns` turns over the original context.
            let plane = |turns: f64| {
                head_dim as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln())
            };
            let (mut low, mut high) = (plane(beta_fast), plane(beta_slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, mut high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
            if low == high {
                high += 0.001;
            }
            let stretched = |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            plain
                .iter()
                .enumerate()
                .map(|(i, &f)| f / factor * stretched(i) + f * (1.0 - stretched(i)))
                .collect()
        }
    }
}
