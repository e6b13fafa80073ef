//! The rotary embedding's parameters, in the spellings that checkpoints use: `rope_theta` beside
//! `rope_scaling` (until transformers 4), or all in `rope_parameters` (since transformers 5).

use super::fields::Fields;
use crate::Result;

/// How one kind of layer rotates its queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeParameters {
    /// The base of the geometric series of wavelengths.
    pub theta: f64,
    /// How the series is stretched to reach longer contexts.
    pub scaling: RopeScaling,
}

/// The ways to stretch a rotary embedding that Qwen3 and Gemma 3 checkpoints use.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// Positions are divided by `factor` (position interpolation, arXiv:2306.15595).
    Linear {
        /// The stretch.
        factor: f64,
    },
    /// Long wavelengths are stretched, short ones are not, those between are blended (Llama 3.1).
    Llama3 {
        /// The stretch of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are stretched.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are left alone.
        high_freq_factor: f64,
        /// The context length of the pretraining, in tokens.
        original_max_position_embeddings: f64,
    },
    /// YaRN (arXiv:2309.00071).
    Yarn {
        /// The stretch of the long wavelengths.
        factor: f64,
        /// Dimensions that rotate more often than this over the original context are left alone.
        beta_fast: f64,
        /// Dimensions that rotate less often than this are stretched.
        beta_slow: f64,
        /// The context length of the pretraining, in tokens.
        original_max_position_embeddings: f64,
        /// What cosine and sine are multiplied by.
        attention_factor: f64,
        /// Whether the borders between the dimensions are rounded to whole ones.
        truncate: bool,
    },
}

impl RopeParameters {
    /// From the object that holds the scaling (`rope_scaling` or `rope_parameters`), if there is
    /// one; `theta` serves where that object names none. `max_positions` is the default of
    /// `original_max_position_embeddings`.
    pub(super) fn read(
        scaling: Option<&Fields<'_>>,
        theta: f64,
        max_positions: usize,
    ) -> Result<Self> {
        let Some(f) = scaling else {
            return Ok(Self {
                theta,
                scaling: RopeScaling::None,
            });
        };
        let theta = f.positive("rope_theta")?.unwrap_or(theta);
        if let Some(part) = f.number("partial_rotary_factor")?.filter(|p| *p != 1.0) {
            return Err(f.problem(
                "partial_rotary_factor",
                format!("{part} is not supported; these families rotate the whole head"),
            ));
        }
        let kind = match f.text("rope_type")? {
            Some(kind) => kind,
            None => f.text("type")?.unwrap_or("default"),
        };
        let required = |key: &str| f.positive(key)?.ok_or_else(|| f.missing(key));
        let original = || {
            Ok::<_, crate::Error>(
                f.positive("original_max_position_embeddings")?
                    .unwrap_or(max_positions as f64),
            )
        };
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear {
                factor: required("factor")?,
            },
            "llama3" => RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_max_position_embeddings: original()?,
            },
            "yarn" => {
                let original_max_position_embeddings = original()?;
                let factor = match f.positive("factor")? {
                    Some(factor) => factor,
                    None => max_positions as f64 / original_max_position_embeddings,
                };
                RopeScaling::Yarn {
                    factor,
                    beta_fast: f.positive("beta_fast")?.unwrap_or(32.0),
                    beta_slow: f.positive("beta_slow")?.unwrap_or(1.0),
                    original_max_position_embeddings,
                    attention_factor: yarn_attention_factor(f, factor)?,
                    truncate: f.flag("truncate")?.unwrap_or(true),
                }
            }
            other => {
                let problem = format!(
                    "'{other}' is not supported; supported are default, linear, llama3, yarn"
                );
                return Err(f.problem("rope_type", problem));
            }
        };
        Ok(Self { theta, scaling })
    }
}

/// `attention_factor` where it is given, else the paper's `0.1 ln(factor) + 1`, or the ratio of two
/// such terms where `mscale` and `mscale_all_dim` are given.
fn yarn_attention_factor(f: &Fields<'_>, factor: f64) -> Result<f64> {
    if let Some(given) = f.positive("attention_factor")? {
        return Ok(given);
    }
    let term = |m: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * m * factor.ln() + 1.0
        }
    };
    let set = |key: &str| Ok::<_, crate::Error>(f.number(key)?.filter(|m| *m != 0.0));
    Ok(match (set("mscale")?, set("mscale_all_dim")?) {
        (Some(m), Some(all)) => term(m) / term(all),
        _ => term(1.0),
    })
}
