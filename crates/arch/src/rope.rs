//! The rotary embedding's parameters, in the spellings that checkpoints use: `rope_theta` beside
//! `rope_scaling` (until transformers 4), or all in `rope_parameters` (since transformers 5).

use std::f64::consts::PI;

use crate::Result;
use crate::fields::Fields;

/// How a kind of layer rotates its queries and keys (arXiv:2104.09864).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Width of what is rotated: the whole head, or its first features.
    pub dims: usize,
    /// The base of the geometric series of wavelengths.
    pub theta: f64,
    /// How the series is stretched to reach longer contexts.
    pub scaling: RopeScaling,
}

/// The ways to stretch a rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// Positions are divided by `factor` (position interpolation, arXiv:2306.15595).
    Linear {
        /// The stretch.
        factor: f64,
    },
    /// The first planes turn, at the wavelengths of the whole head, and the others do not (Gemma 4).
    Proportional {
        /// The planes that turn, of all.
        share: f64,
        /// The stretch of their wavelengths.
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

/// Where a configuration says how a kind of layer rotates.
pub(crate) struct Sources<'a> {
    /// Width of a head, or of what is rotated of it.
    pub(crate) head_dim: usize,
    /// Whether that may be a part.
    pub(crate) partial: bool,
    /// `rope_scaling`, the older of the two.
    pub(crate) scaling: Option<Fields<'a>>,
    /// `rope_parameters`, or what it has for the kind of layer.
    pub(crate) parameters: Option<Fields<'a>>,
    /// The base that stands beside both.
    pub(crate) theta: Option<f64>,
    /// The base where none is named.
    pub(crate) default_theta: f64,
    /// `original_max_position_embeddings` where it stands beside both.
    pub(crate) original: Option<f64>,
    /// The default of `original_max_position_embeddings`.
    pub(crate) max_positions: usize,
}

impl Rope {
    /// Of a configuration with one kind of layer.
    pub(crate) fn flat(
        f: &Fields<'_>,
        head_dim: usize,
        default_theta: f64,
        max_positions: usize,
    ) -> Result<Self> {
        Self::read(&Sources {
            head_dim,
            partial: false,
            scaling: f.object("rope_scaling")?,
            parameters: f.object("rope_parameters")?,
            theta: f.positive("rope_theta")?,
            default_theta,
            original: f.positive("original_max_position_embeddings")?,
            max_positions,
        })
    }

    /// A file that has been through two versions of transformers may have both objects: then
    /// `rope_scaling` counts, as in transformers and mlx-lm, with the base that stands beside them, else
    /// that of `rope_parameters` (mlx-lm). Of one object alone, its own base counts first.
    pub(crate) fn read(from: &Sources<'_>) -> Result<Self> {
        let used = |f: &Option<Fields<'_>>| f.as_ref().is_some_and(|f| !f.is_empty());
        let own = |f: &Option<Fields<'_>>| match f {
            Some(f) => f.positive("rope_theta"),
            None => Ok(None),
        };
        let (scaling, parameters) = (own(&from.scaling)?, own(&from.parameters)?);
        let (object, theta) = match (used(&from.scaling), used(&from.parameters)) {
            (true, true) => (&from.scaling, from.theta.or(scaling).or(parameters)),
            (true, false) => (&from.scaling, scaling.or(from.theta)),
            (false, _) => (&from.parameters, parameters.or(from.theta)),
        };
        let theta = theta.unwrap_or(from.default_theta);
        match object {
            Some(object) => Self::scaled(object, theta, from),
            None => Ok(Self {
                dims: from.head_dim,
                theta,
                scaling: RopeScaling::None,
            }),
        }
    }

    /// The longest context, in tokens, of a model whose configuration says `max_positions`: up to the
    /// original context times the factor where positions are stretched linearly or by YaRN, as vLLM has
    /// it. Llama 3's scaling is already in `max_positions`.
    pub(crate) fn context(&self, max_positions: usize) -> usize {
        let (original, factor) = match self.scaling {
            RopeScaling::Linear { factor } => (max_positions as f64, factor),
            RopeScaling::Yarn {
                original_max_position_embeddings: original,
                factor,
                ..
            } => (original, factor),
            RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Proportional { .. } => {
                return max_positions;
            }
        };
        // At least one token; a float's cast to an integer stops at the largest.
        (original * factor.max(1.0)).max(1.0) as usize
    }

    /// Positions a radian for each of the `dims / 2` planes.
    pub fn periods(&self) -> Vec<f64> {
        let inv_freq = inverse_frequencies(self);
        inv_freq.into_iter().map(|f| 1.0 / f).collect()
    }

    /// What positions are multiplied by.
    pub fn position_scale(&self) -> f64 {
        match self.scaling {
            RopeScaling::Linear { factor } => 1.0 / factor,
            _ => 1.0,
        }
    }

    /// What rotated queries, and rotated keys, are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn {
                attention_factor, ..
            } => attention_factor,
            _ => 1.0,
        }
    }

    fn scaled(f: &Fields<'_>, theta: f64, from: &Sources<'_>) -> Result<Self> {
        let max_positions = from.max_positions;
        let kind = match f.text("rope_type")? {
            Some(kind) => kind,
            None => f.text("type")?.unwrap_or("default"),
        };
        if kind == "proportional" {
            return Self::proportional(f, theta, from.head_dim);
        }
        let part = f.number("partial_rotary_factor")?;
        if let Some(part) = part.filter(|p| *p != 1.0 && !from.partial) {
            return Err(f.problem(
                "partial_rotary_factor",
                format!("{part} is not supported; these families rotate the whole head"),
            ));
        }
        let required = |key: &str| f.positive(key)?.ok_or_else(|| f.missing(key));
        let original = || {
            let own = f.positive("original_max_position_embeddings")?;
            Ok::<_, crate::Error>(from.original.or(own).unwrap_or(max_positions as f64))
        };
        let scaling = match kind {
            // The dynamic one changes nothing up to the positions that the model was made for, and no more are offered.
            "default" | "dynamic" => RopeScaling::None,
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
                    "'{other}' is not supported; supported are default, dynamic, linear, llama3, yarn, proportional"
                );
                return Err(f.problem("rope_type", problem));
            }
        };
        Ok(Self {
            dims: from.head_dim,
            theta,
            scaling,
        })
    }
}

impl Rope {
    fn proportional(f: &Fields<'_>, theta: f64, head_dim: usize) -> Result<Self> {
        let key = "partial_rotary_factor";
        let share = f.number(key)?.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(f.problem(key, format!("{share} is no share of a head")));
        }
        Ok(Self {
            dims: head_dim,
            theta,
            scaling: RopeScaling::Proportional {
                share,
                factor: f.positive("factor")?.unwrap_or(1.0),
            },
        })
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

/// Radians a position for each of the `head_dim / 2` planes.
fn inverse_frequencies(rope: &Rope) -> Vec<f64> {
    let (theta, head_dim) = (rope.theta, rope.dims);
    let plain: Vec<f64> = (0..head_dim / 2)
        .map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64))
        .collect();
    match rope.scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => plain,
        RopeScaling::Proportional { share, factor } => {
            let turning = (share * head_dim as f64 / 2.0).floor() as usize;
            let plain = plain.into_iter().enumerate();
            let of = |(i, f): (usize, f64)| if i < turning { f / factor } else { 0.0 };
            plain.map(of).collect()
        }
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
