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
use crate::{Error, Result};
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
    /// Width of one head; even.
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
    /// The longest context the model was made for, in tokens.
    pub max_position_embeddings: Option<usize>,
    /// How the weights are quantized.
    pub quantization: Option<Quantization>,
    /// Ids that end a generation, from `config.json` and `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// What `generation_config.json` advises.
    pub generation: GenerationDefaults,
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
        config.add_generation_config(&dir.join("generation_config.json"))?;
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
        if !self.rms_norm_eps.is_finite() {
            return Err(f.problem("rms_norm_eps", "is too large for float32"));
        }
        if self.layer_types.contains(&LayerType::Sliding) && self.sliding_window.is_none() {
            return Err(f.missing("sliding_window"));
        }
        Ok(())
    }

    fn add_generation_config(&mut self, path: &Path) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let value = read_json(path)?;
        let fields = Fields::root(path, &value)?;
        for id in fields.token_ids("eos_token_id")? {
            if !self.eos_token_ids.contains(&id) {
                self.eos_token_ids.push(id);
            }
        }
        if self.bos_token_id.is_none() {
            self.bos_token_id = fields.token_ids("bos_token_id")?.first().copied();
        }
        self.generation = GenerationDefaults::read(&fields)?;
        Ok(())
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

/// Reads the first of `keys` that is there and checks that it names the one supported function.
fn check_activation(f: &Fields<'_>, keys: &[&str], supported: &str) -> Result<()> {
    for key in keys {
        if let Some(name) = f.text(key)? {
            if name != supported {
                return Err(f.problem(
                    key,
                    format!("'{name}' is not supported; expected '{supported}'"),
                ));
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Reads and parses a JSON file; both failures are one line.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::config(
            path,
            format!("is not valid JSON ({e}); fetch the file again"),
        )
    })
}
