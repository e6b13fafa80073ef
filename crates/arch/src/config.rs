//! `config.json` of a model directory, turned once into what the model is made of.
//!
//! A family's file knows that family's keys and defaults; what all share is here. Everything is checked
//! when it is read; whoever holds a `Config` can rely on it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::one_line;
use crate::fields::Fields;
use crate::{
    Error, Family, GenerationDefaults, Model, Quantization, Result, RopeScaling, families, json,
};

/// The rotary periods of a head are computed when the file is read, before any tensor says how wide
/// a head is.
const MAX_HEAD_DIM: usize = 1 << 16;

/// What a model directory's configuration says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `config.json` that this was read from.
    pub path: PathBuf,
    /// The family that it is of.
    pub family: &'static Family,
    /// `model_type` as the file spells it.
    pub model_type: String,
    /// What the model is made of.
    pub model: Model<String>,
    /// Whether the head is the embedding, if the file says so. A head of other values in the checkpoint
    /// counts all the same.
    pub tie_word_embeddings: Option<bool>,
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
        let mut config = Self::of_json(&path, &read_json(&path)?)?;
        config.add_generation_config(&dir.join("generation_config.json"));
        Ok(config)
    }

    /// As [`Config::read`], of a `config.json` that is no file; `path` is what errors call it.
    pub fn of_json(path: &Path, value: &Value) -> Result<Self> {
        let root = Fields::root(path, value)?;
        let config = Self::parse(&root)?;
        config.check(&root)?;
        Ok(config)
    }

    fn parse(root: &Fields<'_>) -> Result<Self> {
        let model_type = root
            .text("model_type")?
            .ok_or_else(|| root.missing("model_type"))?;
        match families::of(model_type) {
            Some(family) => (family.read)(root, model_type),
            None => Err(Error::UnsupportedModel {
                path: root.file().to_owned(),
                model_type: one_line(model_type.to_owned()),
                supported: families::model_types().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The relations between fields that the forward passes rely on.
    fn check(&self, f: &Fields<'_>) -> Result<()> {
        for attention in self.model.attentions() {
            let (heads, kv_heads) = (attention.heads, attention.kv_heads);
            if !heads.is_multiple_of(kv_heads) {
                let problem = format!("{kv_heads} does not divide num_attention_heads {heads}");
                return Err(f.problem("num_key_value_heads", problem));
            }
            let dim = attention.head_dim;
            if dim == 0 {
                let problem = format!("{} has no room for {heads} heads", attention.q.columns);
                return Err(f.problem("hidden_size", problem));
            }
            if !dim.is_multiple_of(2) {
                return Err(f.problem("head_dim", format!("{dim} is odd; it must be even")));
            }
            if attention.q.rows > i32::MAX as usize {
                let problem = format!("{heads} heads of {dim} are more than any model has");
                return Err(f.problem("num_attention_heads", problem));
            }
            if dim > MAX_HEAD_DIM {
                let problem = format!("{dim} is more than any model has");
                return Err(f.problem("head_dim", problem));
            }
        }
        if !self.model.norm.eps.is_finite() {
            return Err(f.problem("rms_norm_eps", "is too large for float32"));
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
        for rope in &self.model.ropes {
            // YaRN divides by the base's logarithm. An infinite period is no rotation, and is usable.
            let no_base = matches!(rope.scaling, RopeScaling::Yarn { .. }) && rope.theta == 1.0;
            let turns = |period: f64| period as f32 >= f32::MIN_POSITIVE;
            if no_base || !rope.periods().into_iter().all(turns) {
                let problem = format!("{} and its scaling give no rotation", rope.theta);
                return unusable("rope_theta", &problem);
            }
            if let RopeScaling::Linear { factor } = rope.scaling
                && !usable(1.0 / factor)
            {
                return unusable("rope_scaling.factor", &format!("{factor} is out of range"));
            }
        }
        for attention in self.model.attentions() {
            if !usable(attention.scale) {
                return unusable("query_pre_attn_scalar", "is out of range");
            }
            let rope = self.model.ropes.get(attention.rope);
            if let Some(factor) = rope.map(crate::Rope::attention_factor)
                && !usable(factor * factor * attention.scale)
            {
                let problem = format!("{factor} is out of range");
                return unusable("rope_scaling.attention_factor", &problem);
            }
            if let Some(cap) = attention.softcap.filter(|cap| !usable(*cap)) {
                return unusable("attn_logit_softcapping", &format!("{cap} is out of range"));
            }
        }
        match self.model.softcap {
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

/// Reads and parses a JSON file that Python may have written; both failures are one line.
pub fn read_json(path: &Path) -> Result<Value> {
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
