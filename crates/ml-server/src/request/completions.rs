//! `/v1/completions`.

use ml_backend::Options;
use serde::Deserialize;
use serde_json::Value;

use super::chat::MAX_ALTERNATIVES;
use super::{MAX_ANSWERS, Streaming, count, is_empty, sampling, several, streaming};
use crate::errors::{ApiError, Result};
use crate::fields::Fields;
use crate::run::{Job, Prompt};

#[derive(Debug)]
pub(crate) struct Completions {
    pub(crate) model: Option<String>,
    pub(crate) streaming: Streaming,
    /// The prompt stands before each answer.
    pub(crate) echo: bool,
    pub(crate) prompts: Vec<Prompt>,
    options: Options,
    pub(crate) n: usize,
}

/// A prompt in the four ways in which it is sent.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    Several(Vec<String>),
    Ids(Vec<u32>),
    SeveralIds(Vec<Vec<u32>>),
}

impl Texts {
    /// Takes the field `name`.
    pub(super) fn take(fields: &mut Fields, name: &str) -> Result<Vec<Prompt>> {
        let value: Value = fields.need(name)?;
        let texts: Self = serde_json::from_value(value).map_err(|_| {
            let message =
                "it must be a text, a list of texts, a list of token ids or a list of those";
            ApiError::field(fields.path(name), message)
        })?;
        let prompts: Vec<_> = match texts {
            Self::One(text) => vec![Prompt::Text(text)],
            Self::Several(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::Ids(ids) => vec![Prompt::Ids(ids)],
            Self::SeveralIds(lists) => lists.into_iter().map(Prompt::Ids).collect(),
        };
        match prompts.is_empty() {
            true => Err(ApiError::field(
                fields.path(name),
                "is empty; send at least one text",
            )),
            false => Ok(prompts),
        }
    }
}

/// Takes `logprobs`: a number of alternatives, and not a switch as in chats.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>> {
    match fields.value("logprobs") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(top) if top <= MAX_ALTERNATIVES as u64 => Ok(Some(top as usize)),
            _ => Err(ApiError::field(
                "logprobs",
                format_args!("is {value}; it must be from 0 to {MAX_ALTERNATIVES}"),
            )),
        },
    }
}

impl Completions {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let prompts = Texts::take(&mut fields, "prompt")?;
        let mut options = sampling::options(&mut fields)?;
        let echo = fields.take("echo")?.unwrap_or(false);
        options.logprobs = logprobs(&mut fields)?;
        options.prompt_logprobs = options.logprobs.filter(|_| echo);
        fields.refuse_unless(
            "suffix",
            is_empty,
            "the model is not asked to fill in; put all into the prompt",
        )?;
        let n = count(&mut fields, "n")?;
        let best_of = fields.take::<usize>("best_of")?;
        if best_of.is_some_and(|best_of| best_of != n) {
            return Err(ApiError::unsupported(
                "best_of",
                "it must be n, or left out",
            ));
        }
        if prompts.len().saturating_mul(n) > MAX_ANSWERS {
            let message = format!(
                "{} prompts with n {n} are more than {MAX_ANSWERS} answers",
                prompts.len()
            );
            return Err(ApiError::field("prompt", message));
        }
        fields.ignore(&["user", "cache_prompt"]);
        let completions = Self {
            model: fields.take("model")?,
            streaming: streaming(&mut fields)?,
            echo,
            prompts,
            options,
            n,
        };
        fields.end()?;
        if completions.streaming.stream && completions.options.prompt_logprobs.is_some() {
            let why =
                "logprobs of the prompt are known at the end; leave out echo, or do not stream";
            return Err(ApiError::unsupported("logprobs", why));
        }
        Ok(completions)
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        let prompts = self.prompts.iter();
        prompts
            .flat_map(|prompt| several(prompt, &self.options, self.n))
            .collect()
    }
}
