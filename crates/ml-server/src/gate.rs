//! What every request passes before its handler.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;

use crate::app::{App, Stage};
use crate::errors::{ApiError, Style};
use crate::routes;

/// Checks host, origin and key; lets pages of allowed origins read the answer; counts it.
pub(crate) async fn pass(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let style = Style::of_path(request.uri().path());
    let origin = app.hosts.check(request.uri(), request.headers());
    let mut response = match &origin {
        Err(error) => error.response(style),
        Ok(Some(_)) if request.method() == Method::OPTIONS => preflight(&request),
        Ok(_) => match check(&app, &request) {
            Ok(()) => next.run(request).await,
            Err(error) => error.response(style),
        },
    };
    if let Ok(Some(origin)) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    app.metrics.answered(response.status());
    response
}

fn check(app: &App, request: &Request) -> Result<(), ApiError> {
    // Who looks after the process needs no key, and without one learns nothing but that it lives.
    if routes::needs_no_key(request.uri().path()) {
        return Ok(());
    }
    app.keys.check(request.headers())?;
    match app.stage() {
        Stage::Open => Ok(()),
        _ => Err(ApiError::shutting_down()),
    }
}

/// What a browser asks before it sends a page's request.
fn preflight(request: &Request) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(wanted) = request
        .headers()
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    response
}
