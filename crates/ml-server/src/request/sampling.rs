//! Sampling, by OpenAI's names, and by those of llama.cpp and vLLM where OpenAI has none.

use ml_backend::Options;
use serde::Deserialize;
use serde_json::Value;

use super::{is_empty, is_false};
use crate::errors::{ApiError, Result};
use crate::fields::Fields;

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Stop {
    One(String),
    Several(Vec<String>),
}

/// Texts that end an answer, at the most.
const MAX_STOPS: usize = 64;

/// Takes what [`Options`] have of sampling and of an answer's end.
pub(super) fn options(fields: &mut Fields) -> Result<Options> {
    let mut options = Options::new();
    options.temperature = fields.take("temperature")?;
    options.top_p = fields.take("top_p")?;
    options.top_k = top_k(fields)?;
    options.min_p = fields.take("min_p")?;
    options.repetition_penalty = first(fields, &["repetition_penalty", "repeat_penalty"])?;
    // OpenAI's may be negative; the bits are as good a seed.
    options.seed = fields.take::<i64>("seed")?.map(|seed| seed as u64);
    options.max_tokens = max_tokens(fields, &["max_completion_tokens", "max_tokens"])?;
    options.ignore_eos = fields.take("ignore_eos")?.unwrap_or(false);
    options.stop = match fields.take("stop")? {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text],
        Some(Stop::Several(texts)) => texts,
    };
    if options.stop.len() > MAX_STOPS {
        let message = format!("has {} texts; {MAX_STOPS} are possible", options.stop.len());
        return Err(ApiError::field("stop", message));
    }
    not_there_yet(fields)?;
    Ok(options)
}

/// Fields that ask for nothing at their neutral value, and for what the engine does not have yet at any other.
fn not_there_yet(fields: &mut Fields) -> Result<()> {
    let zero = |value: &Value| value.as_f64() == Some(0.0);
    for name in ["presence_penalty", "frequency_penalty"] {
        fields.refuse_unless(name, zero, "use repetition_penalty, or leave it out")?;
    }
    fields.refuse_unless("logit_bias", is_empty, "leave it out")?;
    let none = |value: &Value| is_false(value) || zero(value);
    fields.refuse_unless("logprobs", none, "leave it out")?;
    fields.refuse_unless("top_logprobs", zero, "leave it out")?;
    let text = |value: &Value| value.get("type").and_then(Value::as_str) == Some("text");
    fields.refuse_unless(
        "response_format",
        text,
        "leave it out, or ask for {\"type\": \"text\"}",
    )
}

/// The most tokens of an answer, by the first of the names that is given.
pub(super) fn max_tokens(fields: &mut Fields, names: &[&str]) -> Result<Option<usize>> {
    match first::<usize>(fields, names)? {
        Some(0) => {
            let name = fields.path(names.last().copied().unwrap_or_default());
            Err(ApiError::field(name, "is 0; it must be 1 or more"))
        }
        given => Ok(given),
    }
}

/// llama.cpp and vLLM say 0 and -1 for all.
fn top_k(fields: &mut Fields) -> Result<Option<usize>> {
    let given = fields.take::<i64>("top_k")?;
    Ok(given.map(|k| match k {
        -1 | 0 => usize::MAX,
        k => usize::try_from(k).unwrap_or(0),
    }))
}

/// The first of the names that is given; the others are taken too.
fn first<T: serde::de::DeserializeOwned>(fields: &mut Fields, names: &[&str]) -> Result<Option<T>> {
    let mut found = None;
    for name in names {
        let given = fields.take(name)?;
        found = found.or(given);
    }
    Ok(found)
}
