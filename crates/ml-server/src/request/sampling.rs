//! Sampling, by OpenAI's names, and by those of llama.cpp and vLLM where OpenAI has none.

use std::collections::BTreeMap;

use ml_backend::{Options, Xtc};
use serde::Deserialize;

use super::form;
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
    options.stop = match fields.value("stop").map(serde_json::from_value) {
        None => Vec::new(),
        Some(Ok(Stop::One(text))) => vec![text],
        Some(Ok(Stop::Several(texts))) => texts,
        Some(Err(_)) => {
            return Err(ApiError::field(
                "stop",
                "it must be a text or a list of texts",
            ));
        }
    };
    if options.stop.len() > MAX_STOPS {
        let message = format!("has {} texts; {MAX_STOPS} are possible", options.stop.len());
        return Err(ApiError::field("stop", message));
    }
    options.presence_penalty = fields.take("presence_penalty")?;
    options.frequency_penalty = fields.take("frequency_penalty")?;
    options.logit_bias = logit_bias(fields)?;
    options.typical_p = fields.take("typical_p")?;
    options.xtc = xtc(fields)?;
    options.stop_ids = fields.take("stop_token_ids")?.unwrap_or_default();
    options.allowed_ids = fields.take("allowed_token_ids")?.unwrap_or_default();
    form::response_format(fields, &mut options)?;
    Ok(options)
}

/// Takes `logit_bias`: token ids, as texts, and what is added to their logits; -100 bans a token, as in OpenAI's API.
fn logit_bias(fields: &mut Fields) -> Result<BTreeMap<u32, f32>> {
    let given: BTreeMap<String, f32> = fields.take("logit_bias")?.unwrap_or_default();
    let bias = |(id, bias): (String, f32)| {
        let path = || format!("logit_bias.{id}");
        let Ok(token) = id.parse() else {
            return Err(ApiError::field(path(), "it is no token id"));
        };
        match bias {
            -100.0 => Ok((token, f32::NEG_INFINITY)),
            bias if (-100.0..=100.0).contains(&bias) => Ok((token, bias)),
            _ => Err(ApiError::field(path(), "it must be from -100 to 100")),
        }
    };
    given.into_iter().map(bias).collect()
}

/// Takes `xtc_probability` and `xtc_threshold`, llama.cpp's.
fn xtc(fields: &mut Fields) -> Result<Option<Xtc>> {
    let probability = fields.take("xtc_probability")?.unwrap_or(0.0);
    let threshold: Option<f32> = fields.take("xtc_threshold")?;
    let mut xtc = Xtc::new(probability);
    xtc.threshold = threshold.unwrap_or(xtc.threshold);
    Ok((probability != 0.0).then_some(xtc))
}

/// The most tokens of an answer, by the first of the names that is given.
pub(super) fn max_tokens(fields: &mut Fields, names: &[&str]) -> Result<Option<usize>> {
    let mut found = None;
    for name in names {
        match fields.take::<usize>(name)? {
            Some(0) => {
                return Err(ApiError::field(
                    fields.path(name),
                    "is 0; it must be 1 or more",
                ));
            }
            given => found = found.or(given),
        }
    }
    Ok(found)
}

/// llama.cpp and vLLM say 0 and -1 for all.
pub(super) fn top_k(fields: &mut Fields) -> Result<Option<usize>> {
    match fields.take::<i64>("top_k")? {
        None => Ok(None),
        Some(-1 | 0) => Ok(Some(usize::MAX)),
        Some(k) => usize::try_from(k).map(Some).map_err(|_| {
            let message = format!("is {k}; it must be 1 or more, or 0 or -1 for all");
            ApiError::field(fields.path("top_k"), message)
        }),
    }
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
