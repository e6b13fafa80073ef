//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};

use super::{fields, or_error};
use crate::app::App;
use crate::errors::{Result, Style};
use crate::request::chat::Chat;
use crate::run::Run;
use crate::sse;
use crate::wire::chat::{self, Chunks};

pub(super) async fn complete(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, answer(&app, &headers, body).await)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Chat::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let streaming = request.streaming;
    let job = request.job();
    let answers = job.n;
    let run = Run::start(app, &model.backend, vec![job]).await?;
    if streaming.stream {
        let chunks = Chunks::new(model.name, answers, streaming.usage);
        return Ok(sse::response(run, chunks, app.limits.ping));
    }
    Ok(chat::response(&model.name, run.whole().await?))
}
