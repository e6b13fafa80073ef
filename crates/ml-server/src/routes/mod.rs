//! What is served, a file a group of endpoints.

mod chat;
mod completions;
mod embeddings;
mod infill;
mod messages;
mod models;
mod page;
mod rerank;
mod responses;
mod status;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::routing::{get, post};
use serde::Serialize;

use crate::app::App;
use crate::errors::{ApiError, Result, Style};
use crate::fields::Fields;
use crate::{gate, json};

/// All routes behind their gate.
pub(crate) fn all(app: &Arc<App>) -> Router {
    let page = page::paths().fold(Router::new(), |all, path| all.route(path, get(page::file)));
    page.route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/responses", post(responses::respond))
        .route("/v1/messages", post(messages::answer))
        .route("/v1/messages/count_tokens", post(messages::count))
        .route("/infill", post(infill::fill_in))
        .route("/rerank", post(rerank::rerank))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/health", get(status::health))
        .route("/metrics", get(status::metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(app),
            gate::pass,
        ))
        .with_state(Arc::clone(app))
}

/// Whether a path is open without a key: `/health`, for whoever looks after the process, and the page, which asks for
/// the key.
pub(crate) fn needs_no_key(path: &str) -> bool {
    path == "/health" || page::paths().any(|open| open == path)
}

async fn no_such_path(OriginalUri(uri): OriginalUri) -> Response<Body> {
    let message = format!(
        "there is nothing at {}; docs/server.md lists what there is",
        uri.path()
    );
    let error = ApiError::new(StatusCode::NOT_FOUND, message).code("not_found");
    error.response(Style::of_path(uri.path()))
}

async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Response<Body> {
    let message = format!(
        "{} takes no {method}; docs/server.md lists what it takes",
        uri.path()
    );
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed");
    error.response(Style::of_path(uri.path()))
}

/// Tokens of a request that nothing is generated for.
#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl Usage {
    fn of_prompts(tokens: usize) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
        }
    }
}

/// The response, or the error in the form of `style`.
fn or_error(style: Style, outcome: Result<Response<Body>>) -> Response<Body> {
    outcome.unwrap_or_else(|error| error.response(style))
}

/// The fields of a request.
async fn fields(app: &App, headers: &HeaderMap, body: Body) -> Result<Fields> {
    let object = json::object(headers, body, app.limits.body).await?;
    Ok(Fields::new(object))
}

/// Does what blocks on a thread that may. `work` is told when nobody waits for it any more.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(ml_backend::CancelToken) -> ml_backend::Result<T> + Send + 'static,
) -> Result<T> {
    /// A client that goes away drops this.
    struct Waiting(ml_backend::CancelToken);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let waiting = Waiting(ml_backend::CancelToken::new());
    let cancel = waiting.0.clone();
    let done = tokio::task::spawn_blocking(move || work(cancel)).await;
    drop(waiting);
    let done =
        done.map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the work panicked"))?;
    done.map_err(|error| ApiError::from(&error))
}
