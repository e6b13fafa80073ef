//! `ml rerank`: how well documents fit a query.

use std::process::ExitCode;

use ml_backend::RerankOptions;
use serde_json::json;

use crate::args::RerankArgs;
use crate::output::print;
use crate::{session, signals};

pub(crate) fn run(args: &RerankArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    let backend = session::open(&args.model)?;
    let mut options = RerankOptions::new();
    options.instruction = args.instruction.clone();
    let documents: Vec<&str> = args.document.iter().map(String::as_str).collect();
    let scores = backend.rerank(&args.query, &documents, &options)?;
    match args.json {
        true => print(&format!("{}\n", json!({ "scores": scores })))?,
        false => {
            for score in scores {
                print(&format!("{score:.6}\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
