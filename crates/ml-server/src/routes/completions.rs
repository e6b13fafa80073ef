//! `POST /v1/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use ml_backend::MlxBackend;

use super::{fields, or_error};
use crate::app::App;
use crate::errors::{ApiError, Result, Style};
use crate::request::completions::Completions;
use crate::run::{Prompt, Run};
use crate::sse;
use crate::wire::completions;

pub(super) async fn complete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, answer(&app, &headers, body).await)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Completions::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let run = Run::start(app, &model.backend, request.jobs()).await?;
    let echoes = request.prompts.iter().map(|prompt| match request.echo {
        true => echo(&model.backend, prompt),
        false => Ok(None),
    });
    let echoes = echoes.collect::<Result<_>>()?;
    let writer =
        completions::Completions::new(model.name, request.n, request.streaming.usage, echoes);
    if request.streaming.stream {
        return Ok(sse::response(run, writer, app.limits.ping));
    }
    Ok(writer.response(run.whole().await?))
}

fn echo(backend: &MlxBackend, prompt: &Prompt) -> Result<Option<String>> {
    match prompt {
        Prompt::Text(text) => Ok(Some(text.clone())),
        Prompt::Ids(ids) => backend
            .decode(ids)
            .map(Some)
            .map_err(|error| ApiError::from(&error)),
        Prompt::Chat(_) | Prompt::Middle { .. } => Ok(None),
    }
}
