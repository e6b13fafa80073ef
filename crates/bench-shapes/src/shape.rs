//! Dimensions of a model, and from them its tensors and what a decode step reads.
//!
//! The random checkpoint, the memory check, the bandwidth limit and the peers all start from one
//! [`Shape`], so a ratio compares the same work.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::tensor::{Fill, Tensor};

/// Weights that share a scale and a bias, as mlx-lm quantizes unless told.
pub(crate) const GROUP: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
/// What a model is built like.
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Qwen3, dense.
    Qwen3,
    /// Gemma 3, text.
    Gemma3,
}

/// The dimensions of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// What it is called on the command line.
    pub name: String,
    /// What the model is built like.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Number of layers.
    pub layers: u64,
    /// Width inside the MLP.
    pub ffn: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Rows of the embedding.
    pub vocab: u64,
    /// Whether the embedding is the head.
    pub tied: bool,
    /// Tokens that five of six layers see; Gemma 3 alone has it.
    pub window: Option<u64>,
}

/// What the weights of the matrices are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// 4 bits, affine, groups of 64
    Q4,
    /// 8 bits, affine, groups of 64
    Q8,
    /// bfloat16
    Bf16,
}

impl Weights {
    /// Bits of a packed weight; `None` where nothing is quantized.
    pub fn bits(self) -> Option<u64> {
        match self {
            Self::Q4 => Some(4),
            Self::Q8 => Some(8),
            Self::Bf16 => None,
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Q4 => "q4",
            Self::Q8 => "q8",
            Self::Bf16 => "bf16",
        })
    }
}

/// hidden, layers, ffn, heads, kv_heads, head_dim, vocab, tied, window; from the `config.json` that
/// Qwen and Google published.
type Dimensions = (u64, u64, u64, u64, u64, u64, u64, bool, Option<u64>);

const PUBLISHED: &[(&str, Dimensions)] = &[
    (
        "qwen3-0.6b",
        (1024, 28, 3072, 16, 8, 128, 151_936, true, None),
    ),
    (
        "qwen3-1.7b",
        (2048, 28, 6144, 16, 8, 128, 151_936, true, None),
    ),
    (
        "qwen3-4b",
        (2560, 36, 9728, 32, 8, 128, 151_936, true, None),
    ),
    (
        "qwen3-8b",
        (4096, 36, 12_288, 32, 8, 128, 151_936, false, None),
    ),
    (
        "gemma3-270m",
        (640, 18, 2048, 4, 1, 256, 262_144, true, Some(512)),
    ),
    (
        "gemma3-1b",
        (1152, 26, 6912, 4, 1, 256, 262_144, true, Some(512)),
    ),
    (
        "gemma3-4b",
        (2560, 34, 10_240, 8, 4, 256, 262_208, true, Some(1024)),
    ),
];

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = PUBLISHED.iter().find(|(known, _)| *known == name);
        let Some((_, d)) = found else {
            let known: Vec<_> = PUBLISHED.iter().map(|(known, _)| *known).collect();
            return Err(format!("expected one of {}", known.join(", ")));
        };
        Ok(Self {
            name: name.to_owned(),
            family: if d.8.is_some() {
                Family::Gemma3
            } else {
                Family::Qwen3
            },
            hidden: d.0,
            layers: d.1,
            ffn: d.2,
            heads: d.3,
            kv_heads: d.4,
            head_dim: d.5,
            vocab: d.6,
            tied: d.7,
            window: d.8,
        })
    }
}

impl Shape {
    /// The dimensions that a model directory's `config.json` has, and what its weights are.
    ///
    /// # Errors
    /// When there is none, it is of another family, or its weights are none of [`Weights`].
    pub fn read(dir: &Path, tied: bool) -> Result<(Self, Weights)> {
        let path = dir.join("config.json");
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let root: Value =
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        let config = root.get("text_config").unwrap_or(&root);
        let family = match root["model_type"].as_str() {
            Some("qwen3") => Family::Qwen3,
            Some("gemma3" | "gemma3_text") => Family::Gemma3,
            other => bail!("{}: model_type {other:?} is not supported", path.display()),
        };
        // What published Gemma 3 files leave out; Qwen3's have every key.
        let size = |key: &str, default: Option<u64>| {
            let value = config[key]
                .as_u64()
                .or(default.filter(|_| family == Family::Gemma3));
            value.with_context(|| format!("{} has no {key}", path.display()))
        };
        let weights = match root["quantization"]["bits"].as_u64() {
            Some(4) => Weights::Q4,
            Some(8) => Weights::Q8,
            None => Weights::Bf16,
            Some(bits) => bail!("{}: {bits}-bit weights have no row here", path.display()),
        };
        let name = dir
            .file_name()
            .map_or("model".into(), |name| name.to_string_lossy());
        let shape = Self {
            name: name.into_owned(),
            family,
            hidden: size("hidden_size", None)?,
            layers: size("num_hidden_layers", None)?,
            ffn: size("intermediate_size", None)?,
            heads: size("num_attention_heads", Some(8))?,
            kv_heads: size("num_key_value_heads", Some(4))?,
            head_dim: size("head_dim", Some(256))?,
            vocab: size("vocab_size", Some(262_208))?,
            tied,
            window: match family {
                Family::Gemma3 => Some(size("sliding_window", Some(4096))?),
                Family::Qwen3 => None,
            },
        };
        Ok((shape, weights))
    }

    /// `config.json` of a random checkpoint.
    pub fn config(&self, weights: Weights) -> Value {
        let mut config = json!({
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.ffn,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "tie_word_embeddings": self.tied,
            "attention_bias": false,
        });
        let own = match self.window {
            None => json!({
                "model_type": "qwen3",
                "hidden_act": "silu",
                "max_position_embeddings": 40_960,
            }),
            Some(window) => json!({
                "model_type": "gemma3_text",
                "hidden_activation": "gelu_pytorch_tanh",
                "max_position_embeddings": 32_768,
                "rope_local_base_freq": 1e4,
                "query_pre_attn_scalar": self.head_dim,
                "sliding_window": window,
                "sliding_window_pattern": 6,
            }),
        };
        merge(&mut config, own);
        if let Some(bits) = weights.bits() {
            merge(
                &mut config,
                json!({"quantization": {"group_size": GROUP, "bits": bits, "mode": "affine"}}),
            );
        }
        config
    }

    /// Every tensor of a checkpoint of these weights, in the order of the file.
    pub fn tensors(&self, weights: Weights) -> Vec<Tensor> {
        let mut all = Vec::new();
        let norm = |all: &mut Vec<Tensor>, name: String, width| {
            let around = if self.family == Family::Qwen3 {
                1.0
            } else {
                0.0
            };
            let name = format!("{name}.weight");
            all.push(Tensor::new(
                name,
                "BF16",
                vec![width],
                Fill::Norm { around },
            ));
        };
        let matrix = |all: &mut Vec<Tensor>, name: &str, rows, columns| {
            all.extend(matrix(name, rows, columns, weights));
        };
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        matrix(&mut all, "model.embed_tokens", self.vocab, self.hidden);
        for i in 0..self.layers {
            let at = format!("model.layers.{i}");
            for (part, rows, columns) in [
                ("self_attn.q_proj", q, self.hidden),
                ("self_attn.k_proj", kv, self.hidden),
                ("self_attn.v_proj", kv, self.hidden),
                ("self_attn.o_proj", self.hidden, q),
                ("mlp.gate_proj", self.ffn, self.hidden),
                ("mlp.up_proj", self.ffn, self.hidden),
                ("mlp.down_proj", self.hidden, self.ffn),
            ] {
                matrix(&mut all, &format!("{at}.{part}"), rows, columns);
            }
            for part in ["self_attn.q_norm", "self_attn.k_norm"] {
                norm(&mut all, format!("{at}.{part}"), self.head_dim);
            }
            let own: &[&str] = match self.family {
                Family::Qwen3 => &[],
                Family::Gemma3 => &["pre_feedforward_layernorm", "post_feedforward_layernorm"],
            };
            for part in ["input_layernorm", "post_attention_layernorm"]
                .iter()
                .chain(own)
            {
                norm(&mut all, format!("{at}.{part}"), self.hidden);
            }
        }
        norm(&mut all, "model.norm".into(), self.hidden);
        if !self.tied {
            matrix(&mut all, "lm_head", self.vocab, self.hidden);
        }
        all
    }

    /// Bytes of keys and values, two bytes each, that `tokens` tokens take in the caches; a window
    /// keeps no more than it sees.
    pub fn cache_bytes(&self, tokens: u64) -> u64 {
        let full = match self.window {
            None => self.layers,
            Some(_) => self.layers / 6,
        };
        let seen = self.window.map_or(tokens, |window| tokens.min(window));
        let values = full * tokens + (self.layers - full) * seen;
        2 * 2 * self.kv_heads * self.head_dim * values
    }
}

fn matrix(name: &str, rows: u64, columns: u64, weights: Weights) -> Vec<Tensor> {
    let weight = format!("{name}.weight");
    let Some(bits) = weights.bits() else {
        return vec![Tensor::new(
            weight,
            "BF16",
            vec![rows, columns],
            Fill::Matrix { columns },
        )];
    };
    let groups = vec![rows, columns / GROUP];
    let packed = vec![rows, columns * bits / 32];
    let scales = Fill::Scales { columns, bits };
    let biases = Fill::Biases { columns, bits };
    vec![
        Tensor::new(weight, "U32", packed, Fill::Bits),
        Tensor::new(format!("{name}.scales"), "BF16", groups.clone(), scales),
        Tensor::new(format!("{name}.biases"), "BF16", groups, biases),
    ]
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{decode_bytes, total_bytes};

    fn shape(name: &str) -> Shape {
        name.parse().unwrap()
    }

    /// The published parameter counts: 596,049,920 (Qwen3-0.6B's card says 0.6B), 999,885,952
    /// (Gemma 3 1B) and 8,190,735,360 (Qwen3-8B), each in two bytes.
    #[test]
    fn bfloat16_checkpoints_have_the_published_number_of_parameters() {
        for (name, parameters) in [
            ("qwen3-0.6b", 596_049_920),
            ("gemma3-1b", 999_885_952),
            ("gemma3-270m", 268_098_176),
            ("qwen3-8b", 8_190_735_360),
        ] {
            let bytes = total_bytes(&shape(name).tensors(Weights::Bf16));
            assert_eq!(bytes, 2 * parameters, "{name}");
        }
    }

    /// 4 bits and two bfloat16 a group of 64 are 4.5 bits a weight; norms stay bfloat16. Of
    /// Qwen3-0.6B 65,536 parameters are norms: 28 (2 * 1024 + 2 * 128) + 1024.
    #[test]
    fn quantized_checkpoints_have_four_and_a_half_bits_a_weight() {
        let norms = 28 * (2 * 1024 + 2 * 128) + 1024;
        let bytes = total_bytes(&shape("qwen3-0.6b").tensors(Weights::Q4));
        assert_eq!(bytes, (596_049_920 - norms) * 9 / 16 + 2 * norms);
    }

    #[test]
    fn a_decode_step_reads_a_tied_embedding_whole_and_a_row_of_another() {
        let tied = shape("qwen3-0.6b").tensors(Weights::Bf16);
        assert_eq!(decode_bytes(&tied, 151_936), total_bytes(&tied));
        let apart = shape("qwen3-8b").tensors(Weights::Bf16);
        let rest = total_bytes(&apart) - 2 * 151_936 * 4096;
        assert_eq!(decode_bytes(&apart, 151_936), rest + 2 * 4096);
    }

    #[test]
    fn a_window_bounds_the_cache_of_five_layers_in_six() {
        assert_eq!(
            shape("qwen3-0.6b").cache_bytes(512),
            512 * 28 * 2 * 8 * 128 * 2
        );
        let layer = 2 * 256 * 2;
        assert_eq!(
            shape("gemma3-1b").cache_bytes(1000),
            layer * (4 * 1000 + 22 * 512)
        );
        assert_eq!(shape("gemma3-1b").cache_bytes(100), layer * 26 * 100);
    }

    #[test]
    fn an_unknown_shape_is_answered_with_those_there_are() {
        let error = "qwen2-7b".parse::<Shape>().unwrap_err();
        assert!(error.contains("qwen3-0.6b"), "{error}");
    }
}
