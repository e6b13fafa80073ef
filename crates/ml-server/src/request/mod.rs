//! What clients ask, as what the engine is asked: one file an API, and the sampling that two of them share.
//!
//! Everything here is plain: a request's object in, [`Job`](crate::run::Job)s or a refusal that names the field out.

pub(crate) mod chat;
pub(crate) mod completions;
#[cfg(test)]
mod conformance;
pub(crate) mod embeddings;
mod form;
pub(crate) mod infill;
pub(crate) mod messages;
#[cfg(test)]
mod recorded;
pub(crate) mod rerank;
pub(crate) mod responses;
mod sampling;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;
mod tools;

use serde_json::Value;

use crate::errors::{ApiError, Result};
use crate::fields::Fields;

/// Whether and how an answer is streamed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streaming {
    pub(crate) stream: bool,
    /// A last chunk tells the tokens.
    pub(crate) usage: bool,
}

fn streaming(fields: &mut Fields) -> Result<Streaming> {
    let stream = fields.take("stream")?.unwrap_or(false);
    let mut usage = false;
    if let Some(mut options) = fields.object("stream_options")? {
        usage = options.take("include_usage")?.unwrap_or(false);
        // Padding against those who count packets, which a server on loopback has no use for.
        options.ignore(&["include_obfuscation"]);
        options.end()?;
    }
    Ok(Streaming { stream, usage })
}

/// Answers of one request, at the most.
const MAX_ANSWERS: usize = 128;

fn count(fields: &mut Fields, name: &str) -> Result<usize> {
    match fields.take::<usize>(name)? {
        None => Ok(1),
        Some(n) if (1..=MAX_ANSWERS).contains(&n) => Ok(n),
        Some(n) => Err(ApiError::field(
            fields.path(name),
            format_args!("is {n}; it must be from 1 to {MAX_ANSWERS}"),
        )),
    }
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn is(value: &'static str) -> impl Fn(&Value) -> bool {
    move |given| given.as_str() == Some(value)
}
