//! `POST /infill`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};

use super::{fields, or_error};
use crate::app::App;
use crate::errors::{Result, Style};
use crate::request::infill::Infill;
use crate::run::{Run, engine_gone};
use crate::sse;
use crate::wire::infill;

pub(super) async fn fill_in(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    or_error(Style::OpenAi, answer(&app, &headers, body).await)
}

async fn answer(app: &Arc<App>, headers: &HeaderMap, body: Body) -> Result<Response<Body>> {
    let request = Infill::read(fields(app, headers, body).await?)?;
    let model = app.models.get(request.model.as_deref()).await?;
    let stream = request.stream;
    let run = Run::start(app, &model.backend, vec![request.job()]).await;
    let run = run.map_err(|error| error.renamed("suffix", "input_suffix"))?;
    let writer = infill::Infill::new(model.name);
    if stream {
        return Ok(sse::response(run, writer, app.limits.ping));
    }
    let answers = run.whole().await?;
    let whole = answers.first().ok_or_else(engine_gone)?;
    Ok(writer.response(whole))
}
