//! Dimensions of a model, and from them its tensors and what a decode step reads.
//!
//! The random checkpoint, the memory check, the bandwidth limit and the peers all start from one
//! [`Shape`], so a ratio compares the same work.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail};
use arch::{Config, Linear, Model, Part, families, stacks};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::tensor::{Fill, Tensor};

/// Weights that share a scale and a bias, as mlx-lm quantizes unless told.
pub(crate) const GROUP: u64 = 64;

/// Dimensions that nobody has published. The mixture is that of Qwen3 MoE at a size that a small machine has memory for:
/// 4.5 G weights, 0.6 G of them for a token.
const OURS: &[(&str, &str)] = &[(
    "qwen3-4b-a0.6b",
    r#"{"model_type": "qwen3_moe", "hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072,
        "moe_intermediate_size": 384, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "num_attention_heads": 16, "num_key_value_heads": 4,
        "head_dim": 128, "vocab_size": 151936, "rope_theta": 1000000, "max_position_embeddings": 40960,
        "tie_word_embeddings": true}"#,
)];

/// What decoders are called in checkpoints of one.
const ROOT: &str = "model";

/// The dimensions of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// What it is called on the command line.
    pub name: String,
    /// `config.json` of an unquantized checkpoint.
    config: Value,
    model_type: String,
    model: Model<String>,
    /// Whether the embedding is the head.
    tied: bool,
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

impl FromStr for Shape {
    type Err = String;

    /// A published one, or one of ours.
    fn from_str(name: &str) -> Result<Self, String> {
        let published = families::ALL.iter().flat_map(|family| family.published);
        let all = published.chain(OURS);
        let Some((_, text)) = all.clone().find(|(known, _)| *known == name) else {
            let known: Vec<_> = all.map(|(known, _)| *known).collect();
            return Err(format!("expected one of {}", known.join(", ")));
        };
        let config = arch::json::parse(text).map_err(|e| e.to_string())?;
        Self::of(name, config).map_err(|e| e.to_string())
    }
}

impl Shape {
    /// Of a model with this `config.json`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn of(name: &str, config: Value) -> Result<Self> {
        let read = Config::of_json(Path::new("config.json"), &config)?;
        Ok(Self::with(name, config, read, None))
    }

    fn with(name: &str, config: Value, read: Config, tied: Option<bool>) -> Self {
        Self {
            name: name.to_owned(),
            config,
            tied: tied.or(read.tie_word_embeddings).unwrap_or(true),
            model_type: read.model_type,
            model: read.model,
        }
    }

    /// The dimensions that a model directory's `config.json` has, and what its weights are.
    ///
    /// # Errors
    /// When there is none, it cannot be used, or its weights are none of [`Weights`].
    pub fn read(dir: &Path, tied: bool) -> Result<(Self, Weights)> {
        let path = dir.join("config.json");
        let config = Config::read(dir)?;
        let value = arch::read_json(&path)?;
        let weights = match value["quantization"]["bits"].as_u64() {
            Some(4) => Weights::Q4,
            Some(8) => Weights::Q8,
            None => Weights::Bf16,
            Some(bits) => bail!("{}: {bits}-bit weights have no row here", path.display()),
        };
        let name = dir
            .file_name()
            .map_or("model".into(), |name| name.to_string_lossy());
        Ok((Self::with(&name, value, config, Some(tied)), weights))
    }

    /// Rows of the embedding.
    pub fn vocab(&self) -> u64 {
        self.model.vocab_size() as u64
    }

    /// `config.json` of a random checkpoint.
    pub fn config(&self, weights: Weights) -> Value {
        let mut config = self.config.clone();
        if let (Some(bits), Value::Object(config)) = (weights.bits(), &mut config) {
            let quantization = json!({"group_size": GROUP, "bits": bits, "mode": "affine"});
            config.insert("quantization".into(), quantization);
        }
        config
    }

    /// Every tensor of a checkpoint of these weights, in the order of the file.
    pub fn tensors(&self, weights: Weights) -> Vec<Tensor> {
        let mut all = Vec::new();
        let vector = |name: &str, length: usize, around| {
            let (name, fill) = (format!("{ROOT}.{name}"), Fill::Vector { around });
            Tensor::new(name, "BF16", vec![length as u64], fill)
        };
        for part in self.model.parts() {
            match part {
                Part::Matrix(m) if m.experts.is_some() => all.extend(self.stack(m, weights)),
                Part::Matrix(m) => all.extend(matrix(&format!("{ROOT}.{}", m.weight), m, weights)),
                Part::Biases(m) => {
                    let (top, count) = self.experts(m);
                    let fill = Fill::Vector { around: 0.0 };
                    let shape = vec![count, m.rows as u64];
                    let name = format!("{ROOT}.{}", m.bias.as_deref().unwrap_or_default());
                    all.push(Tensor::new(name, "BF16", shape, fill).of_experts(top, count));
                }
                Part::Bias(name, length) | Part::Heads(name, length) => {
                    all.push(vector(name, length, 0.0));
                }
                Part::Factors(name, length) => all.push(vector(name, length, 1.0)),
                Part::Convolution(c) => {
                    let shape = vec![c.channels as u64, 1, c.width as u64];
                    let (name, fill) =
                        (format!("{ROOT}.{}", c.weight), Fill::Vector { around: 0.5 });
                    all.push(Tensor::new(name, "BF16", shape, fill));
                }
                Part::Norm(norm) => {
                    let around = if norm.centered { 0.0 } else { 1.0 };
                    all.push(vector(&norm.weight, norm.width, around));
                }
            }
        }
        if !self.tied {
            all.extend(matrix(&self.model.head.weight, &self.model.head, weights));
        }
        all
    }

    /// The matrices of all experts, as mlx-lm stores them.
    fn stack(&self, linear: &Linear<String>, weights: Weights) -> Vec<Tensor> {
        let (top, count) = self.experts(linear);
        let [in_place, below, as_described] = stacks::stacked(&linear.weight);
        let name = match linear.weight.contains(".mlp.experts.") {
            _ if linear.by_turns => format!("{ROOT}.{as_described}"),
            true => format!("{ROOT}.{in_place}"),
            false => format!("{ROOT}.{below}"),
        };
        let parts = matrix(&name, linear, weights).into_iter();
        parts.map(|part| part.of_experts(top, count)).collect()
    }

    /// How many experts a token has, and how many there are in a stack.
    fn experts(&self, stack: &Linear<String>) -> (u64, u64) {
        let mlps = self.model.layers.iter().map(|layer| &layer.mlp.part);
        let top = mlps.filter_map(|mlp| Some(mlp.experts()?.top as u64));
        (top.max().unwrap_or(1), stack.experts.unwrap_or(1) as u64)
    }

    /// Bytes of keys and values, two bytes each, that `tokens` tokens take in the caches; a window
    /// keeps no more than it sees.
    pub fn cache_bytes(&self, tokens: u64) -> u64 {
        self.model.cache_bytes(tokens, 2)
    }
}

/// What other engines' files are written from: the dimensions, `config.json`, and name and shape of every tensor of an
/// unquantized checkpoint.
impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let model = &self.model;
        let first = model.layers.first();
        let attention = model.attentions().next();
        let rope = model.ropes.first();
        let window = model.states.iter().find_map(arch::State::window);
        let tensors = self.tensors(Weights::Bf16);
        let tensors = tensors
            .iter()
            .map(|tensor| json!([tensor.name, tensor.shape]));
        json!({
            "name": self.name,
            "family": self.model_type,
            "config": self.config,
            "hidden": model.hidden_size(),
            "layers": model.layers.len(),
            "ffn": first.map(|layer| layer.mlp.part.width()),
            "heads": attention.map(|a| a.heads),
            "kv_heads": attention.map(|a| a.kv_heads),
            "head_dim": attention.map(|a| a.head_dim),
            "vocab": model.vocab_size(),
            "tied": self.tied,
            "window": window,
            "rope_theta": rope.map(|rope| rope.theta),
            "attention_softcap": attention.and_then(|a| a.softcap),
            "logit_softcap": model.softcap,
            "tensors": tensors.collect::<Vec<_>>(),
        })
        .serialize(serializer)
    }
}

fn matrix(name: &str, linear: &Linear<String>, weights: Weights) -> Vec<Tensor> {
    let (rows, columns) = (linear.rows as u64, linear.columns as u64);
    let sized = |width| {
        let experts = linear.experts.map(|count| count as u64);
        experts.into_iter().chain([rows, width]).collect::<Vec<_>>()
    };
    let weight = format!("{name}.weight");
    // As mlx-lm has them: rows that are no whole groups stay as they are.
    let Some(bits) = weights.bits().filter(|_| columns.is_multiple_of(GROUP)) else {
        return vec![Tensor::new(
            weight,
            "BF16",
            sized(columns),
            Fill::Matrix { columns },
        )];
    };
    let groups = sized(columns / GROUP);
    let packed = sized(columns * bits / 32);
    let scales = Fill::Scales { columns, bits };
    let biases = Fill::Biases { columns, bits };
    vec![
        Tensor::new(weight, "U32", packed, Fill::Bits),
        Tensor::new(format!("{name}.scales"), "BF16", groups.clone(), scales),
        Tensor::new(format!("{name}.biases"), "BF16", groups, biases),
    ]
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

    /// Of 128 experts a token has 8: 3.3 of 30.5 G weights, the embedding but for a row left out.
    #[test]
    fn a_decode_step_reads_the_experts_that_a_token_has() {
        let shape = shape("qwen3-30b-a3b");
        let tensors = shape.tensors(Weights::Bf16);
        assert_eq!(total_bytes(&tensors), 2 * 30_532_122_624);
        let experts = 48 * 3 * 128 * 768 * 2048;
        let active = 30_532_122_624 - experts / 128 * 120 - 151_935 * 2048;
        assert_eq!(decode_bytes(&tensors, 151_936), 2 * active);
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
        let error = "qwen2-70b".parse::<Shape>().unwrap_err();
        assert!(error.contains("qwen3-0.6b"), "{error}");
    }
}
