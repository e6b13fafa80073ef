//! What a directory says about how texts become embeddings: `modules.json` and the files that it names, as
//! sentence-transformers writes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path};

use serde_json::Value;

use super::Pooling;
use crate::{Error, Result};

/// None of these files is larger in honest directories.
const MOST_BYTES: u64 = 1 << 20;

/// How texts become embeddings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) pooling: Pooling,
    /// Whether each has length 1 in the end.
    pub(crate) normalised: bool,
    /// What stands before a text, by name.
    pub(crate) prompts: BTreeMap<String, String>,
    /// The prompt that a text has where none is named.
    pub(crate) default_prompt: Option<String>,
}

impl Recipe {
    /// Of a model directory. Without `modules.json`, the last token's state with length 1, as a causal model has it.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let mut recipe = Self {
            pooling: Pooling::Last,
            normalised: true,
            prompts: BTreeMap::new(),
            default_prompt: None,
        };
        recipe.read_prompts(dir)?;
        let path = dir.join("modules.json");
        let Some(modules) = json(&path)? else {
            return Ok(recipe);
        };
        let Some(modules) = modules.as_array() else {
            return Err(refused(&path, "is no list; fetch the file again"));
        };
        let mut pooling = None;
        recipe.normalised = false;
        for (i, module) in modules.iter().enumerate() {
            let text = |key| module.get(key).and_then(Value::as_str);
            let (Some(kind), Some(folder)) = (text("type"), text("path")) else {
                let problem = format!("module {i} has no text as 'type' or 'path'");
                return Err(refused(&path, problem));
            };
            // Of the class's path, which differs between versions, the class.
            match (i, kind.rsplit('.').next().unwrap_or(kind)) {
                (0, "Transformer") if folder.is_empty() => {}
                (1, "Pooling") => pooling = Some(read_pooling(dir, &path, folder)?),
                (2, "Normalize") => recipe.normalised = true,
                _ => {
                    let problem = format!(
                        "module {i} is {kind:?} in {folder:?}; what can be run is a Transformer in \"\", a Pooling, and perhaps a Normalize"
                    );
                    return Err(refused(&path, problem));
                }
            }
        }
        recipe.pooling = pooling.ok_or_else(|| refused(&path, "names no Pooling"))?;
        Ok(recipe)
    }

    fn read_prompts(&mut self, dir: &Path) -> Result<()> {
        let path = dir.join("config_sentence_transformers.json");
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
}

/// The mode of the pooling in `folder`, which `modules`, a file of `dir`, names.
fn read_pooling(dir: &Path, modules: &Path, folder: &str) -> Result<Pooling> {
    let mut parts = Path::new(folder).components();
    let inside = parts.all(|part| matches!(part, Component::Normal(_)));
    if folder.is_empty() || !inside {
        let problem = format!("{folder:?} is no folder of this directory");
        return Err(refused(modules, problem));
    }
    let path = dir.join(folder).join("config.json");
    let Some(config) = json(&path)? else {
        return Err(refused(&path, "is missing; fetch the directory whole"));
    };
    if config.get("include_prompt") == Some(&Value::Bool(false)) {
        let problem = "'include_prompt' is false; only poolings of prompt and text can be run";
        return Err(refused(&path, problem));
    }
    let modes: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(modes)) => modes
            .iter()
            .map(|mode| mode.as_str().unwrap_or(""))
            .collect(),
        Some(other) => {
            return Err(refused(
                &path,
                format!("'pooling_mode' is {other}, no text"),
            ));
        }
        None => {
            let on = |(key, value): (&'_ String, &Value)| {
                (key.starts_with("pooling_mode_") && value == &Value::Bool(true)).then_some(())
            };
            let keys = config.as_object().into_iter().flatten();
            let keys = keys.filter(|(key, value)| on((key, value)).is_some());
            let mut modes: Vec<&str> = keys.map(|(key, _)| old_name(key)).collect();
            if modes.is_empty() {
                modes.push("mean");
            }
            modes
        }
    };
    let [mode] = modes[..] else {
        let problem = format!("has the pooling modes {modes:?}; one can be run");
        return Err(refused(&path, problem));
    };
    Pooling::named(mode).ok_or_else(|| {
        let problem = format!(
            "pooling mode {mode:?} is none of cls, lasttoken, mean, mean_sqrt_len_tokens, weightedmean, max"
        );
        refused(&path, problem)
    })
}

/// What a mode that has a key of its own is called where one key has its name.
fn old_name(key: &str) -> &str {
    match key.trim_start_matches("pooling_mode_") {
        "cls_token" => "cls",
        "max_tokens" => "max",
        "mean_tokens" => "mean",
        "weightedmean_tokens" => "weightedmean",
        other => other,
    }
}

/// A file's JSON; `None` where there is no such file.
fn json(path: &Path) -> Result<Option<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, format!("cannot be read: {error}"))),
    };
    let mut text = String::new();
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| refused(path, format!("cannot be read: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(refused(path, "is larger than 1 MiB; fetch the file again"));
    }
    let value = serde_json::from_str(&text);
    let value = value.map_err(|error| refused(path, format!("is no JSON: {error}")))?;
    Ok(Some(value))
}

fn refused(path: &Path, problem: impl Into<String>) -> Error {
    Error::Embedding {
        path: path.to_owned(),
        problem: problem.into(),
    }
}
