//! `ml logits`: the raw scores of every position, for those who compare implementations.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::args::LogitsArgs;
use crate::output::{note, print};
use crate::{session, signals};

pub(crate) fn run(args: &LogitsArgs) -> anyhow::Result<ExitCode> {
    signals::install()?;
    let backend = session::open(&args.model)?;
    let ids = &args.tokens.0;
    let logits = backend.logits(ids)?;
    let shape = [ids.len(), backend.info().model.vocab_size];
    let file = args.out.display();
    write(&args.out, &logits, shape).with_context(|| format!("cannot write {file}"))?;

    note(&format!("wrote logits, float32 {shape:?}, to {file}"));
    if args.json {
        let object = json!({ "file": file.to_string(), "tensor": "logits", "dtype": "float32", "shape": shape });
        print(&format!("{object}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A safetensors file of one tensor: the length of its header, the header, and the numbers. Written here
/// and not by the library, which wants all bytes at once: the logits may fill half of the memory.
fn write(path: &Path, logits: &[f32], shape: [usize; 2]) -> std::io::Result<()> {
    let bytes = 4 * logits.len();
    let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, bytes] });
    let mut header = json!({ "logits": tensor }).to_string();
    // The numbers begin at a multiple of 8.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for value in logits {
        out.write_all(&value.to_le_bytes())?;
    }
    out.into_inner()
        .map_err(|error| error.into_error())?
        .flush()
}
