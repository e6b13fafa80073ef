//! `config.json` of a model directory, turned once into what the forward passes need.
//!
//! Both families are decoder-only transformers that differ in few facts, so one [`Config`] serves
//! both: a family's file here only knows that family's keys and defaults. Everything is checked
//! when it is read; whoever holds a `Config` can rely on it.

mod fields;
mod gemma3;
mod generation;
mod quantization;
mod qwen3;
mod rope;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::one_line;
use crate::{Error, Result, json};
use fields::Fields;
pub use generation::GenerationDefaults;
pub(crate) use quantization::unsupported;
pub use quantization::{LayerQuantization, Quantization};
pub use rope::{RopeParameters, RopeScaling};

/// The model families that can be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Qwen3, dense (`model_type` `qwen3`).
    Qwen3,
    /// Gemma 3, text (`model_type` `gemma3_text`, or `gemma3` with a `text_config`).
    Gemma3,
}

/// The values of `model_type` that [`Config::read`] takes.
pub const SUPPORTED_MODEL_TYPES: &[&str] = &["qwen3", "gemma3_text", "gemma3"];

/// The rotary periods of a head are computed when the file is read, before any tensor says how wide
/// a head is.
const MAX_HEAD_DIM: usize = 1 << 16;

/// Which keys a layer's queries see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerType {
    /// All up to their own position.
    Full,
    /// The last `sliding_window` up to their own position.
    Sliding,
}

/// The architecture of a model directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `config.json` that this was read from.
    pub path: PathBuf,
    /// The family whose forward pass runs it.
    pub family: Family,
    /// `model_type` as the file spells it.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the gated MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even, and at most 65536.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f32,
    /// The kind of each layer, in order.
    pub layer_types: Vec<LayerType>,
    /// Tokens a sliding layer sees, its own included; present when there is such a layer.
    pub sliding_window: Option<usize>,
    /// Rotary embedding of the full layers.
    pub rope: RopeParameters,
    /// Rotary embedding of the sliding layers.
    pub local_rope: RopeParameters,
    /// What queries times keys are multiplied by.
    pub attention_scale: f64,
    /// Whether the attention projections have a bias.
    pub attention_bias: bool,
    /// Whether the head is the embedding, if the file says so. A head of other values in the checkpoint
    /// counts all the same.
    pub tie_word_embeddings: Option<bool>,
    /// Logits are squashed to this range by tanh.
    pub final_logit_softcapping: Option<f64>,
    /// `max_position_embeddings`: the longest context of the pretraining, in tokens.
    pub max_position_embeddings: Option<usize>,
    /// The longest context, in tokens: that, or what the scaling of the rotary embedding makes of it.
    pub context: Option<usize>,
    /// How the weights are quantized.
    pub quantization: Option<Quantization>,
    /// Ids that end a generation, from `config.json` and `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// What `generation_config.json` advises.
    pub generation: GenerationDefaults,
    /// What the files say that could not be used and was left out, one line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads `config.json` and, where there is one, `generation_config.json` of `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::read(
                dir,
                "is not a directory; give the directory of a model",
            ));
        }
        let path = dir.join("config.json");
        if !path.exists() {
            return Err(Error::read(
                dir,
                "has no config.json; a model directory holds config.json, tokenizer.json and *.safetensors",
            ));
        }
        let value = read_json(&path)?;
        let root = Fields::root(&path, &value)?;
        let mut config = Self::parse(&root)?;
        config.check(&root)?;
        config.add_generation_config(&dir.join("generation_config.json"));
        Ok(config)
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layer_types.len()
    }

    fn parse(root: &Fields<'_>) -> Result<Self> {
        let model_type = root
            .text("model_type")?
            .ok_or_else(|| root.missing("model_type"))?;
        match model_type {
            "qwen3" => qwen3::parse(root),
            "gemma3_text" => gemma3::parse(root, root, model_type),
            "gemma3" => {
                let text = root.object("text_config")?;
                gemma3::parse(root, text.as_ref().unwrap_or(root), model_type)
            }
            other => Err(Error::UnsupportedModel {
                path: root.file().to_owned(),
                model_type: one_line(other.to_owned()),
                supported: SUPPORTED_MODEL_TYPES.join(", "),
            }),
        }
    }

    /// The relations between fields that the forward passes rely on.
    fn check(&self, f: &Fields<'_>) -> Result<()> {
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            let problem = format!(
                "{} does not divide num_attention_heads {}",
                self.num_key_value_heads, self.num_attention_heads
            );
            return Err(f.problem("num_key_value_heads", problem));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(f.problem(
                "head_dim",
                format!("{} is odd; it must be even", self.head_dim),
            ));
        }
        if self.head_dim > MAX_HEAD_DIM {
            let problem = format!("{} is more than any model has", self.head_dim);
            return Err(f.problem("head_dim", problem));
        }
        if !self.rms_norm_eps.is_finite() {
            return Err(f.problem("rms_norm_eps", "is too large for float32"));
        }
        if self.layer_types.contains(&LayerType::Sliding) && self.sliding_window.is_none() {
            return Err(f.missing("sliding_window"));
        }
        self.check_numbers(f)
    }

    /// What the forward passes have as float32 and divide by, or multiply with, must be a number there:
    /// else every logit would be none, and no word said why.
    fn check_numbers(&self, f: &Fields<'_>) -> Result<()> {
        let usable = |x: f64| (x as f32).is_normal();
        let unusable = |key: &str, what: &str| {
            let problem = format!("{what}, so that no logit would be a number");
            Err(f.problem(key, problem))
        };
        for rope in [&self.rope, &self.local_rope] {
            // YaRN divides by the base's logarithm. An infinite period is no rotation, and is usable.
            let no_base = matches!(rope.scaling, RopeScaling::Yarn { .. }) && rope.theta == 1.0;
            let periods = crate::nn::rotary_periods(rope, self.head_dim);
            let turns = |period: f64| period as f32 >= f32::MIN_POSITIVE;
            if no_base || !periods.into_iter().all(turns) {
                return unusable(
                    "rope_theta",
                    &format!("{} and its scaling give no rotation", rope.theta),
                );
            }
            match rope.scaling {
                RopeScaling::Linear { factor } if !usable(1.0 / factor) => {
                    return unusable("rope_scaling.factor", &format!("{factor} is out of range"));
                }
                RopeScaling::Yarn {
                    attention_factor: a,
                    ..
                } if !usable(a * a * self.attention_scale) => {
                    return unusable(
                        "rope_scaling.attention_factor",
                        &format!("{a} is out of range"),
                    );
                }
                _ => {}
            }
        }
        if !usable(self.attention_scale) {
            return unusable("query_pre_attn_scalar", "is out of range");
        }
        match self.final_logit_softcapping {
            Some(cap) if !usable(cap) => {
                unusable("final_logit_softcapping", &format!("{cap} is out of range"))
            }
            _ => Ok(()),
        }
    }

    /// Nothing in `generation_config.json` is needed to run the model. So what cannot be used of it, all
    /// of it if it is broken, is left out with a warning, as transformers and mlx-lm do.
    fn add_generation_config(&mut self, path: &Path) {
        if !path.exists() {
            return;
        }
        let value = match read_json(path) {
            Ok(value) => value,
            Err(error) => return self.warnings.push(format!("{error}; it is left out")),
        };
        let fields = match Fields::root(path, &value) {
            Ok(fields) => fields,
            Err(error) => return self.warnings.push(format!("{error}; it is left out")),
        };
        for id in fields.token_ids("eos_token_id", &mut self.warnings) {
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
        let bos = fields.token_ids("bos_token_id", &mut self.warnings);
        self.bos_token_id = self.bos_token_id.or(bos.first().copied());
        self.generation = GenerationDefaults::read(&fields, &mut self.warnings);
    }
}

/// `layer_types` where the file has it, else `sliding(i)` for each of `num_hidden_layers`.
fn layer_types(f: &Fields<'_>, sliding: impl Fn(usize) -> bool) -> Result<Vec<LayerType>> {
    let count = f.required_size("num_hidden_layers")?;
    if count > 4096 {
        return Err(f.problem(
            "num_hidden_layers",
            format!("{count} is more than any model has"),
        ));
    }
    let Some(value) = f.value("layer_types") else {
        let kind = |i| {
            if sliding(i) {
                LayerType::Sliding
            } else {
                LayerType::Full
            }
        };
        return Ok((0..count).map(kind).collect());
    };
    let list = value
        .as_array()
        .ok_or_else(|| f.problem("layer_types", "is not a list"))?;
    if list.len() != count {
        let problem = format!("has {} entries for {count} layers", list.len());
        return Err(f.problem("layer_types", problem));
    }
    list.iter()
        .map(|entry| match entry.as_str() {
            Some("full_attention") => Ok(LayerType::Full),
            Some("sliding_attention") => Ok(LayerType::Sliding),
            _ => Err(f.problem(
                "layer_types",
                format!(
                    "{entry} is not supported; supported are full_attention, sliding_attention"
                ),
            )),
        })
        .collect()
}

/// `sliding_window`, in tokens; a wider one than can be counted is none that is ever full.
fn window(f: &Fields<'_>) -> Result<usize> {
    let window = f.limit("sliding_window")?.unwrap_or(4096);
    Ok(window.min(i32::MAX as usize))
}

/// Checks that `key`, where it is there, is one of the names of the one supported function.
fn check_activation(f: &Fields<'_>, key: &str, names: &[&str]) -> Result<()> {
    match f.text(key)? {
        Some(name) if !names.contains(&name) => {
            let problem = format!("'{name}' is not supported; expected '{}'", names[0]);
            Err(f.problem(key, problem))
        }
        _ => Ok(()),
    }
}

/// Reads and parses a JSON file that Python may have written; both failures are one line.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    let broken = |problem: &dyn std::fmt::Display| {
        Error::config(
            path,
            format!("is not valid JSON ({problem}); fetch the file again"),
        )
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| broken(&e))?;
    json::parse(text).map_err(|e| broken(&e))
}
