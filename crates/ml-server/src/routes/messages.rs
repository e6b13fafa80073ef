//! `POST /v1/messages` and `/v1/messages/count_tokens`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::{blocking, fields, or_error};
use crate::app::App;
use crate::errors::{ApiError, Result, Style};
use crate::request::messages::Messages;
use crate::run::Run;
use crate::wire::messages::{self, Events};
use crate::{json as out, sse};

pub(super) async fn answer(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::Anthropic, message(&app, &headers, body).await)
}

async fn message(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Messages::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let stream = request.stream;
    let stops = request.options.stop.clone();
    let run = Run::start(app, &model.backend, vec![request.job()]).await;
    let run = run.map_err(|error| {
        error
            .renamed("response_format", "output_config.format")
            .renamed("stop", "stop_sequences")
    })?;
    if stream {
        let events = Events::new(model.name, stops, run.prompt_tokens(0));
        return Ok(sse::response(run, events, app.limits.ping));
    }
    let answer = run.whole().await?.pop();
    let none = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no answer");
    Ok(messages::response(
        &model.name,
        &stops,
        answer.ok_or_else(none)?,
    ))
}

pub(super) async fn count(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::Anthropic, tokens(&app, &headers, body).await)
}

async fn tokens(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Messages::read_prompt(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let ids = blocking(move |_| {
        model
            .backend
            .encode_chat(&request.messages, &request.options)
    })
    .await?;
    Ok(out::response(&json!({"input_tokens": ids.len()})))
}
