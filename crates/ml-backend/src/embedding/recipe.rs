//! What a directory says about how texts become embeddings: `modules.json` and the files that it names, as
//! sentence-transformers writes them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::files::{folder, json, refused};
use super::pooling::{Mode, Pooling};
use super::{Dense, normalise};
use crate::Result;

/// The file of prompts.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";

/// Modules of a directory, at the most.
const MOST_MODULES: usize = 16;

/// How texts become embeddings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub(super) pooling: Pooling,
    /// What follows, in order.
    stages: Vec<Stage>,
    /// Features of an embedding.
    pub(super) width: usize,
    /// What stands before a text, by name.
    pub(super) prompts: BTreeMap<String, String>,
    /// The prompt that a text has where none is named.
    pub(super) default_prompt: Option<String>,
    /// Tokens of a text, at the most: others are left out.
    pub(super) most_tokens: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Dense(Dense),
    Normalise,
}

/// What a recipe has to know of the model.
pub(crate) struct Encoder {
    /// Whether positions see those behind them.
    pub(crate) bidirectional: bool,
    /// Features of a hidden state.
    pub(crate) hidden: usize,
    /// `max_position_embeddings`.
    pub(crate) positions: Option<usize>,
}

impl Recipe {
    /// Of a model directory. Without `modules.json`, a vector of length 1: the mean of the states of a bidirectional
    /// model, the last token's of a causal one.
    pub(crate) fn read(dir: &Path, encoder: &Encoder) -> Result<Self> {
        let mode = match encoder.bidirectional {
            true => Mode::Mean,
            false => Mode::Last,
        };
        let mut recipe = Self {
            pooling: Pooling::of(mode),
            stages: vec![Stage::Normalise],
            width: encoder.hidden,
            prompts: BTreeMap::new(),
            default_prompt: None,
            most_tokens: most_tokens(dir, encoder)?,
        };
        recipe.read_prompts(dir)?;
        recipe.read_modules(dir, encoder.hidden)?;
        Ok(recipe)
    }

    fn read_modules(&mut self, dir: &Path, hidden: usize) -> Result<()> {
        let path = dir.join("modules.json");
        let Some(modules) = json(&path)? else {
            return Ok(());
        };
        let modules = modules.as_array().filter(|list| list.len() <= MOST_MODULES);
        let Some(modules) = modules else {
            return Err(refused(
                &path,
                "is no list of a few modules; fetch the file again",
            ));
        };
        let mut pooling = None;
        self.stages.clear();
        for (i, module) in modules.iter().enumerate() {
            let text = |key| module.get(key).and_then(Value::as_str);
            let (Some(kind), Some(name)) = (text("type"), text("path")) else {
                let problem = format!("module {i} has no text as 'type' or 'path'");
                return Err(refused(&path, problem));
            };
            // Of the class's path, which differs between versions, the class.
            match (i, kind.rsplit('.').next().unwrap_or(kind)) {
                (0, "Transformer") if name.is_empty() => {}
                (1, "Pooling") => {
                    let read = Pooling::read(&folder(dir, &path, name)?)?;
                    self.width = hidden * read.modes.len();
                    pooling = Some(read);
                }
                (2.., "Dense") => {
                    let dense = Dense::read(&folder(dir, &path, name)?, self.width)?;
                    self.width = dense.outputs;
                    self.stages.push(Stage::Dense(dense));
                }
                (2.., "Normalize") => self.stages.push(Stage::Normalise),
                _ => {
                    let problem = format!(
                        "module {i} is {kind:?} in {name:?}; what can be run is a Transformer in \"\", a Pooling, \
                         and behind them Dense and Normalize"
                    );
                    return Err(refused(&path, problem));
                }
            }
        }
        self.pooling = pooling.ok_or_else(|| refused(&path, "names no Pooling"))?;
        Ok(())
    }

    fn read_prompts(&mut self, dir: &Path) -> Result<()> {
        let path = dir.join(PROMPTS);
        let Some(config) = json(&path)? else {
            return Ok(());
        };
        match config.get("prompts") {
            None | Some(Value::Null) => {}
            Some(Value::Object(prompts)) => {
                for (name, prompt) in prompts {
                    let Some(prompt) = prompt.as_str() else {
                        return Err(refused(&path, format!("prompt {name:?} is no text")));
                    };
                    self.prompts.insert(name.clone(), prompt.to_owned());
                }
            }
            Some(_) => return Err(refused(&path, "'prompts' is no object of texts by name")),
        }
        self.default_prompt = match config.get("default_prompt_name") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if self.prompts.contains_key(name) => Some(name.clone()),
            Some(other) => {
                let problem =
                    format!("'default_prompt_name' is {other}, which is no prompt's name");
                return Err(refused(&path, problem));
            }
        };
        Ok(())
    }

    /// From pooled states to embeddings, of which the first `dimensions` features are kept.
    pub(super) fn finish(&self, vectors: &mut [Vec<f32>], dimensions: Option<usize>) {
        for stage in &self.stages {
            match stage {
                Stage::Dense(dense) => dense.apply(vectors),
                Stage::Normalise => vectors.iter_mut().for_each(|vector| normalise(vector)),
            }
        }
        let Some(dimensions) = dimensions else {
            return;
        };
        let is_normalised = self.stages.last() == Some(&Stage::Normalise);
        for vector in vectors {
            vector.truncate(dimensions);
            if is_normalised {
                normalise(vector);
            }
        }
    }
}

/// Tokens of a text, as sentence-transformers bounds them: `max_seq_length` of `sentence_bert_config.json`, else
/// what the tokenizer and the model were made for.
fn most_tokens(dir: &Path, encoder: &Encoder) -> Result<Option<usize>> {
    let path = dir.join("sentence_bert_config.json");
    let config = json(&path)?.unwrap_or_default();
    if config.get("do_lower_case") == Some(&Value::Bool(true)) {
        let problem = "'do_lower_case' is true; only tokenizers that do it themselves can be run: set it to false there";
        return Err(refused(&path, problem));
    }
    let length = |value: &Value| value.as_u64().filter(|n| *n > 0).map(|n| n as usize);
    match config.get("max_seq_length") {
        None | Some(Value::Null) => {}
        Some(value) => {
            let problem = || format!("'max_seq_length' is {value}, no number of tokens");
            return length(value)
                .map(Some)
                .ok_or_else(|| refused(&path, problem()));
        }
    }
    let tokenizer = json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    // Who has no bound has a number that no integer holds.
    let tokenizer = tokenizer.get("model_max_length").and_then(length);
    let bounds = [tokenizer, encoder.positions];
    Ok(bounds.into_iter().flatten().min())
}
