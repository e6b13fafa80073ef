//! `GET /health` and `/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::app::{App, Stage};
use crate::json as out;

/// 200 where requests are taken, 503 where the server ends.
///
/// Who shows a key, where one is asked for, also sees how far each model is.
pub(super) async fn health(State(app): State<Arc<App>>, headers: HeaderMap) -> Response<Body> {
    let open = app.stage() == Stage::Open;
    let (running, waiting) = app.metrics.under_way();
    let status = if open { "ok" } else { "shutting_down" };
    let mut body = json!({"status": status, "running": running, "waiting": waiting});
    if app.keys.check(&headers).is_ok() {
        let (taken, room) = app.models.memory();
        body["models"] = json!(app.models.list());
        body["model_memory"] = json!({"taken": taken, "room": room});
    }
    let mut response = out::response(&body);
    if !open {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let mut response = Response::new(Body::from(app.metrics.text()));
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
