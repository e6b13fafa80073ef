//! Bodies of requests as their endpoints read them, up to where a model would be asked. For this repository's own
//! fuzzers; no part of the API.

use serde_json::Value;

use crate::errors::{ApiError, Style};
use crate::fields::Fields;
use crate::json;
use crate::request::chat::Chat;
use crate::request::completions::Completions;
use crate::request::embeddings::Embeddings;
use crate::request::infill::Infill;
use crate::request::messages::Messages;
use crate::request::rerank::Rerank;
use crate::request::responses::Responses;
use crate::request::tokens::{Detokenize, Tokenize};

/// Whose requests are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/infill`.
    Infill,
    /// `/v1/responses`.
    Responses,
    /// `/v1/messages`.
    Messages,
    /// `/v1/messages/count_tokens`.
    Count,
    /// `/v1/embeddings`.
    Embeddings,
    /// `/rerank`.
    Rerank,
    /// `/tokenize`.
    Tokenize,
    /// `/detokenize`.
    Detokenize,
}

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of HTTP.
    pub status: u16,
    /// The line.
    pub message: String,
    /// The field that it is about.
    pub param: Option<String>,
    /// The answer's body, in the forms of both APIs.
    pub bodies: [String; 2],
}

/// Reads a body: the number of answers that it asks for, as far as it asks for any.
///
/// # Errors
/// What its client would be told.
pub fn read(api: Api, body: &[u8]) -> Result<usize, Refusal> {
    answers(api, body).map_err(|error| Refusal {
        status: error.status.as_u16(),
        message: error.message.clone(),
        param: error.param.clone(),
        bodies: [Style::OpenAi, Style::Anthropic].map(|style| error.body(style)),
    })
}

fn answers(api: Api, body: &[u8]) -> Result<usize, ApiError> {
    let fields = Fields::new(json::parse(body)?);
    Ok(match api {
        Api::Chat => Chat::read(fields)?.job().n,
        Api::Completions => Completions::read(fields)?
            .jobs()
            .iter()
            .map(|job| job.n)
            .sum(),
        Api::Infill => Infill::read(fields)?.job().n,
        Api::Responses => {
            let request = Responses::read(fields)?;
            // As if it went on with a conversation of its own.
            let _ = request.job(&request.input);
            let kept: Value = request.shown.into();
            usize::from(!kept.is_null())
        }
        Api::Messages => {
            let _ = Messages::read(fields)?.job();
            1
        }
        Api::Count => Messages::read_prompt(fields).map(|_| 0)?,
        Api::Embeddings => Embeddings::read(fields).map(|_| 0)?,
        Api::Rerank => Rerank::read(fields).map(|_| 0)?,
        Api::Tokenize => Tokenize::read(fields).map(|_| 0)?,
        Api::Detokenize => Detokenize::read(fields).map(|_| 0)?,
    })
}
