//! A demo model that says what it is told to, with a template and tokens that the demo models lack.

use std::fs;
use std::path::Path;

use ml_backend::{Dtype, LogitsProcessor, MlxBackend, Options};
use serde_json::Value;
use tempfile::TempDir;

/// Plain tokens, as in Qwen3's vocabulary; others are special.
pub(crate) const THOUGHT: [&str; 2] = ["<think>", "</think>"];

/// The demo model with further tokens, and with another template.
pub(crate) fn model(tokens: &[&str], template: Option<&str>) -> (TempDir, MlxBackend) {
    let copy = directory(tokens, template);
    let builder = MlxBackend::builder()
        .device(crate::common::device())
        .dtype(Some(Dtype::Float32));
    let backend = builder.load(copy.path()).unwrap();
    (copy, backend)
}

/// Its directory.
pub(crate) fn directory(tokens: &[&str], template: Option<&str>) -> TempDir {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo");
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(demo).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let file = copy.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let ids = added.iter().filter_map(|token| token["id"].as_u64());
    let first = ids.max().unwrap() + 1;
    for (id, text) in (first..).zip(tokens) {
        let mut token = added[0].clone();
        (token["id"], token["content"]) = (id.into(), (*text).into());
        token["special"] = (!THOUGHT.contains(text)).into();
        added.push(token);
    }
    fs::write(&file, tokenizer.to_string()).unwrap();
    if let Some(template) = template {
        fs::write(copy.path().join("chat_template.jinja"), template).unwrap();
    }
    copy
}

/// Has the model say `answers[i]` in the `i`th turn of a conversation in which its turns begin with `start`.
pub(crate) fn saying(
    backend: &MlxBackend,
    options: Options,
    start: &str,
    answers: &[&str],
) -> Options {
    let encode = |text: &str| backend.encode_text(text, false).unwrap();
    let start = encode(start);
    let script: Vec<Vec<u32>> = answers
        .iter()
        .map(|answer| encode(&format!("{answer}<|im_end|>")))
        .collect();
    options.logits_processor(LogitsProcessor::new(move |ids, logits| {
        let starts = ids.windows(start.len()).enumerate();
        let starts: Vec<usize> = starts
            .filter(|(_, window)| *window == start)
            .map(|(at, _)| at + start.len())
            .collect();
        let answer = &script[(starts.len() - 1).min(script.len() - 1)];
        let said = ids.len() - starts[starts.len() - 1];
        let id = answer[said.min(answer.len() - 1)];
        logits.fill(f32::NEG_INFINITY);
        logits[id as usize] = 0.0;
        Ok(())
    }))
}
