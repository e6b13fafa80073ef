//! `ml embed`: a vector of each text.

use std::process::ExitCode;

use anyhow::Context;
use ml_backend::EmbedOptions;
use serde_json::json;

use crate::args::EmbedArgs;
use crate::output::{note, print};
use crate::{session, signals, tensor};

pub(crate) fn run(args: &EmbedArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    let backend = session::open(&args.model)?;
    let mut options = EmbedOptions::new();
    options.prompt_name = args.prompt_name.clone();
    options.dimensions = args.dimensions;
    let embeddings = match &args.tokens {
        Some(ids) => vec![backend.embed_ids(&ids.0, &options)?],
        None => {
            let texts: Vec<&str> = args.text.iter().map(String::as_str).collect();
            backend.embed(&texts, &options)?
        }
    };
    let shape = [embeddings.len(), embeddings.first().map_or(0, Vec::len)];
    let file = args.out.display();
    tensor::write(&args.out, "embedding", &embeddings.concat(), shape)
        .with_context(|| format!("cannot write {file}"))?;

    note(&format!("wrote embeddings, float32 {shape:?}, to {file}"));
    if args.json {
        let object = json!({ "file": file.to_string(), "tensor": "embedding", "dtype": "float32", "shape": shape });
        print(&format!("{object}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
