//! `POST /rerank`, the best document first.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde::Serialize;

use super::{Usage, blocking, fields, or_error};
use crate::app::App;
use crate::errors::{Result, Style};
use crate::request::rerank::Rerank;
use crate::{ids, json};

#[derive(Serialize)]
struct Ranking<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    results: Vec<Ranked>,
    usage: Usage,
}

#[derive(Serialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document>,
}

#[derive(Serialize)]
struct Document {
    text: String,
}

pub(super) async fn rerank(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, answer(&app, &headers, body).await)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Rerank::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let places = app.admit(1)?;
    let name = model.name.clone();
    let (request, scores, tokens) = blocking(move |cancel| {
        let _places = places;
        let options = request.options.clone().cancel(cancel);
        let documents: Vec<&str> = request.documents.iter().map(String::as_str).collect();
        let scores = model.backend.rerank(&request.query, &documents, &options)?;
        let mut tokens = model.backend.encode_text(&request.query, false)?.len();
        for document in documents {
            tokens += model.backend.encode_text(document, false)?.len();
        }
        Ok((request, scores, tokens))
    })
    .await?;
    let mut ranked: Vec<_> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    ranked.truncate(request.top_n);
    let result = |(index, relevance_score): (usize, f32)| Ranked {
        index,
        relevance_score,
        document: match (request.return_documents, request.documents.get(index)) {
            (true, Some(text)) => Some(Document { text: text.clone() }),
            _ => None,
        },
    };
    Ok(json::response(&Ranking {
        id: ids::new("rerank-"),
        object: "list",
        model: &name,
        results: ranked.into_iter().map(result).collect(),
        // Of query and documents, without the template around them.
        usage: Usage::of_prompts(tokens),
    }))
}
