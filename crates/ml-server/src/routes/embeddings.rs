//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde::Serialize;

use super::{Usage, blocking, fields, or_error};
use crate::app::App;
use crate::errors::{Result, Style};
use crate::request::embeddings::{Embeddings, Format};
use crate::run::Prompt;
use crate::{base64, json};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

pub(super) async fn embed(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, answer(&app, &headers, body).await)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Embeddings::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let places = app.admit(1)?;
    let (format, name) = (request.format, model.name.clone());
    let (vectors, tokens) = blocking(move |cancel| {
        let _places = places;
        let options = request.options.cancel(cancel);
        // A list is of texts or of token ids; either goes to the engine as a whole.
        let (mut texts, mut ids, mut tokens) = (Vec::new(), Vec::new(), 0);
        for input in request.input {
            match input {
                Prompt::Ids(input) => {
                    tokens += input.len();
                    ids.push(input);
                }
                Prompt::Text(text) => {
                    let length = model.backend.encode_text(&text, true)?.len();
                    // The library would leave its end out, and nobody would know.
                    let most = model.backend.embedding_tokens()?;
                    if let Some(context) = most.filter(|most| length > *most) {
                        return Err(ml_backend::Error::PromptTooLong {
                            prompt_tokens: length,
                            context,
                        });
                    }
                    tokens += length;
                    texts.push(text);
                }
                Prompt::Chat(_) | Prompt::Middle { .. } => {}
            }
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = match texts.is_empty() {
            true => model.backend.embed_many_ids(ids, &options)?,
            false => model.backend.embed(&texts, &options)?,
        };
        Ok((vectors, tokens))
    })
    .await
    .map_err(|error| error.about("input"))?;
    let entry = |(index, vector): (usize, Vec<f32>)| Entry {
        object: "embedding",
        index,
        embedding: match format {
            Format::Float => Vector::Floats(vector),
            Format::Base64 => Vector::Base64(base64::of_floats(&vector)),
        },
    };
    Ok(json::response(&List {
        object: "list",
        data: vectors.into_iter().enumerate().map(entry).collect(),
        model: &name,
        usage: Usage::of_prompts(tokens),
    }))
}
