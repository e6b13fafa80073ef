//! `ml logits`: the raw scores of every position, for those who compare implementations.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::args::LogitsArgs;
use crate::output::{note, print};
use crate::{session, signals, tensor};

pub(crate) fn run(args: &LogitsArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    let backend = session::open(&args.model)?;
    let ids = &args.tokens.0;
    let logits = backend.logits(ids)?;
    let shape = [ids.len(), backend.info().model.vocab_size];
    let file = args.out.display();
    tensor::write(&args.out, "logits", &logits, shape)
        .with_context(|| format!("cannot write {file}"))?;

    note(&format!("wrote logits, float32 {shape:?}, to {file}"));
    if args.json {
        let object = json!({ "file": file.to_string(), "tensor": "logits", "dtype": "float32", "shape": shape });
        print(&format!("{object}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
