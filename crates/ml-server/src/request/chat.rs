//! `/v1/chat/completions`.

use ml_backend::{Message, Options};
use serde_json::{Map, Value};

use super::{Streaming, count, form, is, sampling, streaming, tools};
use crate::errors::{ApiError, Result};
use crate::fields::Fields;
use crate::run::{Job, Prompt};

#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) model: Option<String>,
    pub(crate) streaming: Streaming,
    messages: Vec<Message>,
    options: Options,
    n: usize,
}

/// What clients send for OpenAI's accounts and caches; nothing of an answer depends on it.
const IGNORED: [&str; 10] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "prediction",
    "cache_prompt",
];

impl Chat {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let messages = messages(&mut fields)?;
        let mut options = sampling::options(&mut fields)?;
        reasoning(&mut fields, &mut options)?;
        tools::chat(&mut fields, &mut options)?;
        form::check(&options, "response_format")?;
        options.logprobs = logprobs(&mut fields)?;
        fields.refuse("functions", "use tools")?;
        fields.refuse("function_call", "use tool_choice")?;
        if let Some(variables) = fields.take::<Map<String, Value>>("chat_template_kwargs")? {
            options.template_variables.extend(variables);
        }
        options.documents = fields.take("documents")?.unwrap_or_default();
        let text_only = |value: &Value| value == &serde_json::json!(["text"]);
        fields.refuse_unless("modalities", text_only, "answers are text")?;
        fields.refuse("audio", "answers are text")?;
        fields.refuse("web_search_options", "there is no search here")?;
        fields.refuse_unless(
            "verbosity",
            is("medium"),
            "say in a message how long answers shall be",
        )?;
        fields.ignore(&IGNORED);
        let chat = Self {
            model: fields.take("model")?,
            streaming: streaming(&mut fields)?,
            messages,
            options,
            n: count(&mut fields, "n")?,
        };
        fields.end()?;
        Ok(chat)
    }

    pub(crate) fn job(self) -> Job {
        Job {
            prompt: Prompt::Chat(self.messages),
            options: self.options,
            n: self.n,
        }
    }
}

/// Takes a conversation of at least one message.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<Message>> {
    let sent: Vec<Value> = fields.need("messages")?;
    if sent.is_empty() {
        return Err(ApiError::field(
            "messages",
            "is empty; send at least one message",
        ));
    }
    let read = sent.into_iter().enumerate();
    read.map(|(at, message)| self::message(at, message))
        .collect()
}

fn message(at: usize, mut sent: Value) -> Result<Message> {
    let path = format!("messages[{at}]");
    for name in ["function_call", "audio"] {
        if sent.get(name).is_some_and(|value| !value.is_null()) {
            return Err(ApiError::unsupported(
                format!("{path}.{name}"),
                "use tool_calls and text",
            ));
        }
    }
    complete_content(&path, &mut sent)?;
    serde_json::from_value(sent).map_err(|error| ApiError::field(path, error))
}

/// Templates rely on a text of everyone but of an assistant that calls: one that does not, and says nothing, says an empty
/// text.
fn complete_content(path: &str, sent: &mut Value) -> Result<()> {
    let Some(message) = sent.as_object_mut() else {
        return Ok(());
    };
    if message
        .get("content")
        .is_some_and(|content| !content.is_null())
    {
        return Ok(());
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    match message.get("role").and_then(Value::as_str) {
        Some("assistant") if calls.is_none_or(Vec::is_empty) => {
            message.insert("content".to_owned(), "".into());
            Ok(())
        }
        Some("system" | "developer" | "user" | "tool") => {
            Err(ApiError::field(format!("{path}.content"), "missing"))
        }
        _ => Ok(()),
    }
}

/// How much a model reasons before it answers.
fn reasoning(fields: &mut Fields, options: &mut Options) -> Result<()> {
    let mut effort: Option<String> = fields.take("reasoning_effort")?;
    if let Some(mut reasoning) = fields.object("reasoning")? {
        effort = effort.or(reasoning.take("effort")?);
        options.enable_thinking = reasoning.take("enabled")?;
        options.reasoning_budget = reasoning.take("max_tokens")?;
        reasoning.end()?;
    }
    apply_effort(options, effort);
    Ok(())
}

/// Tells the template of an effort: by the name that gpt-oss and its like have for it, and of none by the switch of
/// Qwen's. A template that knows neither is not told.
pub(super) fn apply_effort(options: &mut Options, effort: Option<String>) {
    let Some(effort) = effort else { return };
    if effort == "none" {
        options.enable_thinking = Some(false);
    } else {
        let name = "reasoning_effort".to_owned();
        options.template_variables.insert(name, effort.into());
    }
}

/// Takes `logprobs` and `top_logprobs`: how many alternatives are told beside each token.
fn logprobs(fields: &mut Fields) -> Result<Option<usize>> {
    let asked = fields.take("logprobs")?.unwrap_or(false);
    match fields.take::<usize>("top_logprobs")? {
        Some(top) if top > 0 && !asked => Err(ApiError::field(
            "top_logprobs",
            "it needs logprobs to be true",
        )),
        Some(top) if top > MAX_ALTERNATIVES => Err(ApiError::field(
            "top_logprobs",
            format_args!("is {top}; it must be from 0 to {MAX_ALTERNATIVES}"),
        )),
        top => Ok(asked.then_some(top.unwrap_or(0))),
    }
}

/// Alternatives of a token that are told at the most.
pub(super) const MAX_ALTERNATIVES: usize = 20;
