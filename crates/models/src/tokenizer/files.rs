//! The files of a tokenizer: `tokenizer.json`, and the companions that name its special tokens.
//!
//! Three generations of transformers spelled the same facts differently. Today
//! `tokenizer_config.json` holds everything, tokens included (`added_tokens_decoder`). Before
//! that, `special_tokens_map.json` named the roles and `added_tokens.json` listed added tokens
//! with their ids; both count only where the newer key is absent, as in transformers.

use std::io::ErrorKind;
use std::path::Path;

use arch::json;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::error::one_line;
use super::{TokenizerError, guard, template};

const TOKENIZER: &str = "tokenizer.json";
/// The name of the file that says most about a tokenizer besides `tokenizer.json`.
pub(super) const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";

/// Reads `tokenizer.json`: the tokenizer, and its `decoder` as it is written there.
pub(super) fn read_tokenizer_json(
    dir: &Path,
) -> Result<(tokenizers::Tokenizer, Value), TokenizerError> {
    let path = dir.join(TOKENIZER);
    let text = read(&path)?.ok_or_else(|| TokenizerError::file(&path, how_to_get_it(dir)))?;
    let text = json::with_finite_numbers(&text);
    let broken = |problem: String| broken(dir, &problem);

    /// The keys that are looked at as they stand; the rest is skipped, not built.
    #[derive(serde::Deserialize)]
    struct Declared {
        #[serde(default)]
        normalizer: Value,
        #[serde(default)]
        pre_tokenizer: Value,
        #[serde(default)]
        decoder: Value,
    }
    let declared: Declared =
        serde_json::from_str(&text).map_err(|cause| broken(one_line(&cause)))?;
    for (name, part) in [
        ("normalizer", &declared.normalizer),
        ("pre_tokenizer", &declared.pre_tokenizer),
        ("decoder", &declared.decoder),
    ] {
        guard::check(part).map_err(|problem| broken(format!("{name}: {problem}")))?;
    }

    let mut inner: tokenizers::Tokenizer =
        text.parse().map_err(|cause| broken(one_line(&cause)))?;
    // A checkpoint may carry the limits of some training run. They are no part of the language.
    inner.with_padding(None);
    inner
        .with_truncation(None)
        .map_err(|cause| broken(one_line(&cause)))?;
    Ok((inner, declared.decoder))
}

/// A `tokenizer.json` that does not hold what it should.
pub(super) fn broken(dir: &Path, problem: &str) -> TokenizerError {
    let advice = "copy the file from the original checkpoint again";
    TokenizerError::file(
        dir.join(TOKENIZER),
        format!("not a valid tokenizer ({problem}); {advice}"),
    )
}

/// What to tell the owner of a directory without `tokenizer.json`.
fn how_to_get_it(dir: &Path) -> String {
    let older = ["tokenizer.model", "vocab.json"];
    match older.into_iter().find(|name| dir.join(name).is_file()) {
        Some(name) => format!(
            "not found; convert the {name} beside it with transformers: \
             AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        ),
        None => "not found; copy it from the original checkpoint".to_owned(),
    }
}

/// What the files beside `tokenizer.json` say.
pub(super) struct Companions {
    /// Roles (`bos_token`, `image_token`, ...) and their tokens, in the order of the files.
    pub(super) named: Vec<(String, String)>,
    /// Tokens listed with an id, in the order of their ids.
    listed: Vec<AddedToken>,
    /// Tokens with a role, and further special ones.
    special: Vec<AddedToken>,
    /// `split_special_tokens`: whether the text of a special token is text like any other.
    pub(super) splits_special_tokens: bool,
    /// `chat_template` of `tokenizer_config.json`, still as JSON.
    pub(super) chat_template: Option<Value>,
}

impl Companions {
    pub(super) fn read(dir: &Path) -> Result<Self, TokenizerError> {
        let path = dir.join(CONFIG);
        let mut config = read_object(&path)?.unwrap_or_default();
        let chat_template = config
            .shift_remove(template::KEY)
            .filter(|value| !value.is_null());
        let splits_special_tokens = config.get("split_special_tokens") == Some(&Value::Bool(true));
        let decoder = config.shift_remove("added_tokens_decoder");
        let mut listed: Vec<(u64, AddedToken)> = Vec::new();
        match &decoder {
            Some(Value::Object(tokens)) => {
                for (id, token) in tokens {
                    let at = || TokenizerError::file(&path, format!("added_tokens_decoder.{id}"));
                    let token = added_token(token).ok_or_else(at)?;
                    listed.push((id.parse().map_err(|_| at())?, token));
                }
            }
            _ => {
                let older = read_object(&dir.join(SPECIAL_TOKENS))?.unwrap_or_default();
                config.extend(older);
            }
        }

        let mut roles = Roles::default();
        for (role, token) in &config {
            roles.read(role, token);
        }
        if decoder.is_none() {
            let older = read_object(&dir.join(ADDED_TOKENS))?.unwrap_or_default();
            for (token, id) in older {
                let special = roles.tokens().any(|known| known.content == token);
                listed.push((
                    id.as_u64().unwrap_or(u64::MAX),
                    AddedToken::from(token, special),
                ));
            }
        }
        listed.sort_by_key(|(id, _)| *id);

        let listed = listed.into_iter().map(|(_, token)| token).collect();
        let special = roles.tokens().cloned().collect();
        let named = roles
            .named
            .into_iter()
            .map(|(role, token)| (role, token.content))
            .collect();
        Ok(Self {
            named,
            listed,
            special,
            splits_special_tokens,
            chat_template,
        })
    }

    /// Adds what `tokenizer.json` does not have: a listed token that is not there with the same
    /// flags, and a special token that is not there at all. A known token keeps its id.
    pub(super) fn add_missing_tokens(
        &self,
        inner: &mut tokenizers::Tokenizer,
        path: &Path,
    ) -> Result<(), TokenizerError> {
        let known: Vec<AddedToken> = inner.get_added_tokens_decoder().into_values().collect();
        let has_role = |token: &AddedToken| self.named.iter().any(|(_, it)| *it == token.content);
        let listed = self.listed.iter().filter(|token| !known.contains(token));
        let mut missing: Vec<AddedToken> = listed
            .map(|token| token.clone().special(token.special || has_role(token)))
            .collect();
        for token in &self.special {
            let same = |other: &AddedToken| other.content == token.content;
            if !known.iter().any(same) && !missing.iter().any(same) {
                missing.push(token.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let added = inner.add_tokens(missing);
        added
            .map(|_| ())
            .map_err(|cause| TokenizerError::file(path, one_line(&cause)))
    }
}

/// The tokens that have a role, and further special ones that have none.
#[derive(Default)]
struct Roles {
    named: Vec<(String, AddedToken)>,
    extra: Vec<AddedToken>,
}

impl Roles {
    /// Reads one key of `tokenizer_config.json` or `special_tokens_map.json`.
    fn read(&mut self, key: &str, value: &Value) {
        match (key, value) {
            ("additional_special_tokens" | "extra_special_tokens", Value::Array(tokens)) => {
                self.extra.extend(tokens.iter().filter_map(special_token));
            }
            ("extra_special_tokens" | "model_specific_special_tokens", Value::Object(tokens)) => {
                for (role, token) in tokens {
                    self.name(role, token);
                }
            }
            _ if key.ends_with("_token") => self.name(key, value),
            _ => {}
        }
    }

    fn name(&mut self, role: &str, token: &Value) {
        if let Some(token) = special_token(token) {
            self.named.retain(|(known, _)| known != role);
            self.named.push((role.to_owned(), token));
        }
    }

    fn tokens(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }
}

/// A token that has a role: its text, or an object with its text and flags.
fn special_token(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(content) => Some(AddedToken::from(content.clone(), true)),
        _ => added_token(value).map(|token| token.special(true)),
    }
}

/// A token written as an object. Flags that are absent are off, except `normalized`, which is on
/// unless the token is special.
fn added_token(value: &Value) -> Option<AddedToken> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    Some(AddedToken {
        content: value.get("content")?.as_str()?.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

/// A JSON object, or `None` where there is no such file.
fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, TokenizerError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    match json::parse(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(TokenizerError::file(path, "not a JSON object")),
        Err(cause) => Err(TokenizerError::file(
            path,
            format!("not valid JSON: {cause}"),
        )),
    }
}

/// The text of a file, or `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, TokenizerError> {
    if let Ok(file) = path.metadata()
        && (!file.is_file() || file.len() > guard::LONGEST_FILE)
    {
        let problem = format!("not a file of at most {} MB", guard::LONGEST_FILE >> 20);
        return Err(TokenizerError::file(path, problem));
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) if cause.kind() == ErrorKind::InvalidData => {
            Err(TokenizerError::file(path, "not UTF-8 text"))
        }
        Err(cause) => Err(TokenizerError::file(
            path,
            format!("cannot read it: {cause}"),
        )),
    }
}
