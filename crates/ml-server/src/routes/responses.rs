//! `POST /v1/responses`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::{fields, or_error};
use crate::app::App;
use crate::errors::{ApiError, Result, Style};
use crate::request::responses::Responses;
use crate::run::Run;
use crate::wire::responses::Response;
use crate::{json, sse};

type HttpResponse = axum::http::Response<Body>;

pub(super) async fn respond(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> HttpResponse {
    or_error(Style::OpenAi, answer(&app, &headers, body).await)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<HttpResponse> {
    let request = Responses::read(fields(app, headers, body).await?)?;
    let mut conversation = match &request.previous {
        None => Vec::new(),
        Some(id) => before(app, id)?,
    };
    conversation.extend(request.input.iter().cloned());
    if conversation.is_empty() {
        return Err(ApiError::field(
            "input",
            "is empty; send at least one message",
        ));
    }
    let model = app.models.get(request.model.as_deref()).await?;
    let run = Run::start(app, &model.backend, vec![request.job(&conversation)]).await;
    let run = run.map_err(|error| error.renamed("response_format", "text.format"))?;
    let kept = request.store.then_some(conversation);
    let response = Response::new(Arc::clone(app), model.name, request.shown, kept);
    if request.stream {
        return Ok(sse::response(run, response, app.limits.ping));
    }
    let answer = run.whole().await?.pop();
    let none = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no answer");
    Ok(json::response(&response.whole(answer.ok_or_else(none)?)))
}

fn before(app: &App, id: &str) -> Result<Vec<ml_backend::Message>> {
    let kept = app.conversations.get(id).map(|messages| messages.to_vec());
    kept.ok_or_else(|| {
        let message = format!(
            "no response {id:?} is kept: it was sent with store false, or it is too long ago, or the server was \
             restarted; send the whole conversation as input"
        );
        let error = ApiError::new(StatusCode::NOT_FOUND, message);
        error.param("previous_response_id").code("previous_response_not_found")
    })
}
