//! `POST /tokenize` and `/detokenize`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde_json::json;

use super::{blocking, fields, or_error};
use crate::app::App;
use crate::errors::{ApiError, Result, Style};
use crate::json as out;
use crate::request::tokens::{Detokenize, ToEncode, Tokenize};

pub(super) async fn tokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, ids(&app, &headers, body).await)
}

async fn ids(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Tokenize::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let context = model.backend.info().model.context;
    let tokens = blocking(move |_| match &request.text {
        ToEncode::Text { text, special } => model.backend.encode_text(text, *special),
        ToEncode::Chat { messages, options } => model.backend.encode_chat(messages, options),
    });
    let tokens = tokens.await?;
    Ok(out::response(&json!({
        "tokens": tokens,
        "count": tokens.len(),
        "max_model_len": context,
    })))
}

pub(super) async fn detokenize(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, text(&app, &headers, body).await)
}

async fn text(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Detokenize::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    // What stands for nothing would be left out without a word.
    let vocabulary = model.backend.info().model.vocab_size;
    let mut ids = request.tokens.iter().enumerate();
    if let Some((at, id)) = ids.find(|&(_, &id)| id as usize >= vocabulary) {
        let last = vocabulary.saturating_sub(1);
        let why = format!("is {id}, and the ids of the model's vocabulary end at {last}");
        return Err(ApiError::field(format!("tokens[{at}]"), why));
    }
    let text = blocking(move |_| model.backend.decode_all(&request.tokens)).await?;
    // llama.cpp's server has the one name, vLLM's the other.
    Ok(out::response(&json!({"content": text, "prompt": text})))
}
