//! Where a checkpoint keeps its chat template, and which one serves when it brings several.
//!
//! Only found here, not understood: rendering it is the business of the backend's chat formats.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{TokenizerError, files};
use arch::{json, one_line};

/// The key of a template in JSON files.
pub(super) const KEY: &str = "chat_template";
const JINJA: &str = "chat_template.jinja";
const ADDITIONAL: &str = "additional_chat_templates";
const PROCESSOR: &str = "chat_template.json";

/// The Jinja source of a checkpoint's chat template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    /// The Jinja source.
    pub source: String,
    /// The file that holds it, for error messages.
    pub path: PathBuf,
}

/// The templates of the place that takes precedence.
#[derive(Debug)]
pub(super) enum TemplateChoice {
    None,
    One(ChatTemplate),
    /// Several with names, none of them `default`.
    Unclear {
        path: PathBuf,
        named: BTreeMap<String, String>,
    },
}

impl TemplateChoice {
    pub(super) fn get(&self) -> Result<Option<&ChatTemplate>, TokenizerError> {
        match self {
            Self::None => Ok(None),
            Self::One(template) => Ok(Some(template)),
            Self::Unclear { path, named } => Err(TokenizerError::NoDefaultTemplate {
                path: path.clone(),
                names: one_line(
                    named
                        .keys()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join(", "),
                ),
            }),
        }
    }

    /// Whether a template writes this token.
    pub(super) fn mentions(&self, token: &str) -> bool {
        match self {
            Self::None => false,
            Self::One(template) => template.source.contains(token),
            Self::Unclear { named, .. } => named.values().any(|source| source.contains(token)),
        }
    }
}

/// Finds the chat template of a directory; `config` is `chat_template` of
/// `tokenizer_config.json`.
pub(super) fn find(dir: &Path, config: Option<Value>) -> Result<TemplateChoice, TokenizerError> {
    let named = template_files(dir)?;
    if !named.is_empty() {
        return Ok(choose(dir.join(JINJA), named));
    }
    if let Some(value) = config {
        return from_json(dir.join(files::CONFIG), value);
    }
    let path = dir.join(PROCESSOR);
    let Some(text) = files::read(&path)? else {
        return Ok(TemplateChoice::None);
    };
    let mut value = json::parse(&text)
        .map_err(|cause| TokenizerError::file(&path, format!("not valid JSON: {cause}")))?;
    match value.get_mut(KEY) {
        Some(value) => from_json(path, value.take()),
        None => Ok(TemplateChoice::None),
    }
}

/// The templates that are files of their own, by name.
fn template_files(dir: &Path) -> Result<BTreeMap<String, String>, TokenizerError> {
    let mut named = BTreeMap::new();
    if let Some(source) = files::read(&dir.join(JINJA))? {
        named.insert("default".to_owned(), source);
    }
    let Ok(entries) = std::fs::read_dir(dir.join(ADDITIONAL)) else {
        return Ok(named);
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".jinja")) else {
            continue;
        };
        if let Some(source) = files::read(&path)? {
            named.insert(name.to_owned(), source);
        }
    }
    Ok(named)
}

/// A template in JSON: its source, or several as `[{"name": ..., "template": ...}]` or as
/// `{name: template}`.
fn from_json(path: PathBuf, value: Value) -> Result<TemplateChoice, TokenizerError> {
    let wrong = || {
        let expected = "chat_template is neither a string nor a list of named templates";
        TokenizerError::file(&path, expected)
    };
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
    let named = match value {
        Value::Null => return Ok(TemplateChoice::None),
        Value::String(source) => BTreeMap::from([("default".to_owned(), source)]),
        Value::Array(items) => {
            let mut named = BTreeMap::new();
            for item in &items {
                named.insert(text(&item["name"])?, text(&item["template"])?);
            }
            named
        }
        Value::Object(items) => {
            let mut named = BTreeMap::new();
            for (name, source) in &items {
                named.insert(name.clone(), text(source)?);
            }
            named
        }
        _ => return Err(wrong()),
    };
    Ok(choose(path, named))
}

fn choose(path: PathBuf, mut named: BTreeMap<String, String>) -> TemplateChoice {
    match named.remove("default") {
        Some(source) => TemplateChoice::One(ChatTemplate { source, path }),
        None if named.is_empty() => TemplateChoice::None,
        None => TemplateChoice::Unclear { path, named },
    }
}
