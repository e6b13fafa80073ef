//! `/v1/completions`.

use ml_backend::Options;
use serde::Deserialize;
use serde_json::Value;

use super::chat::MAX_ALTERNATIVES;
use super::{MAX_ANSWERS, Streaming, count, sampling, streaming};
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

/// The prompt as what comes before the text that is wanted.
fn before(prompt: Prompt, suffix: &str) -> Result<Prompt> {
    match prompt {
        Prompt::Text(prefix) => Ok(Prompt::Middle {
            prefix,
            suffix: suffix.to_owned(),
        }),
        _ => Err(ApiError::field(
            "suffix",
            "beside it the prompt must be a text, which the model's own tokens can be put around",
        )),
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
        let mut prompts = Texts::take(&mut fields, "prompt")?;
        let mut options = sampling::options(&mut fields)?;
        let echo = fields.take("echo")?.unwrap_or(false);
        if let Some(suffix) = fields
            .take::<String>("suffix")?
            .filter(|text| !text.is_empty())
        {
            let between = prompts.into_iter().map(|prompt| before(prompt, &suffix));
            prompts = between.collect::<Result<_>>()?;
            if echo {
                let why = "what is filled in stands between two texts; leave it out beside suffix";
                return Err(ApiError::unsupported("echo", why));
            }
        }
        options.logprobs = logprobs(&mut fields)?;
        options.prompt_logprobs = options.logprobs.filter(|_| echo);
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
        let job = |prompt: &Prompt| Job {
            prompt: prompt.clone(),
            options: self.options.clone(),
            n: self.n,
        };
        self.prompts.iter().map(job).collect()
    }
}
