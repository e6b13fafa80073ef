//! `GET /v1/models` and `/v1/models/NAME`, in a form that clients of OpenAI's and of Anthropic's API both read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde::Serialize;

use crate::app::App;
use crate::errors::{ApiError, Style};
use crate::json;
use crate::models::Told;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    has_more: bool,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Nobody knows when a checkpoint was made.
    created: u64,
    created_at: &'static str,
    display_name: &'a str,
    owned_by: &'static str,
    loaded: bool,
    /// Tokens that the context holds, of a model that is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<usize>,
}

fn entry(model: Told<'_>) -> Entry<'_> {
    Entry {
        id: model.name,
        object: "model",
        kind: "model",
        created: 0,
        created_at: "1970-01-01T00:00:00Z",
        display_name: model.name,
        owned_by: "local",
        loaded: model.state == "loaded",
        max_model_len: model.context,
    }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    let data: Vec<_> = app.models.list().into_iter().map(entry).collect();
    json::response(&List {
        object: "list",
        first_id: data.first().map(|model| model.id),
        last_id: data.last().map(|model| model.id),
        data,
        has_more: false,
    })
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    name: std::result::Result<Path<String>, PathRejection>,
) -> Response<Body> {
    // What is no text is no name.
    let name = name.map_or_else(|_| "\u{fffd}".to_owned(), |Path(name)| name);
    let found = app
        .models
        .list()
        .into_iter()
        .find(|model| model.name == name);
    match found {
        Some(model) => json::response(&entry(model)),
        None => {
            let error = ApiError::new(StatusCode::NOT_FOUND, format!("there is no model {name:?}"));
            let error = error.param("model").code("model_not_found");
            error.response(Style::OpenAi)
        }
    }
}
