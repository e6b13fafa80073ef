//! Embeddings and scores equal those of sentence-transformers and transformers in float64 for the same directory
//! (`tools/reference/embeddings.py`).

use std::fs;
use std::path::{Path, PathBuf};

use ml_backend::{CancelToken, Dtype, EmbedOptions, Error, MlxBackend, RerankOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embedding")
}

fn cases() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture().join("cases.json")).unwrap()).unwrap()
}

/// The model's directory with these files.
fn directory(files: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_into(&fixture().join("model"), dir.path());
    write_into(files, dir.path());
    dir
}

/// Copies what a folder holds.
pub(crate) fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_into(&path, &to),
            false => drop(fs::copy(&path, to).unwrap()),
        }
    }
}

/// Writes files; of one that is there, the keys that it is to have.
pub(crate) fn write_into(files: &Value, dir: &Path) {
    for (name, value) in files.as_object().unwrap() {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let there = fs::read_to_string(&path).ok();
        let there = there.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let merged = match (there, value) {
            (Some(Value::Object(mut there)), Value::Object(keys)) => {
                there.extend(keys.clone());
                Value::Object(there)
            }
            _ => value.clone(),
        };
        fs::write(path, merged.to_string()).unwrap();
    }
}

pub(crate) fn load(dir: &Path, plain: bool) -> MlxBackend {
    let builder = MlxBackend::builder().device(crate::common::device());
    let builder = builder.dtype(Some(Dtype::Float32)).plain_mlx(plain);
    builder.load(dir).unwrap()
}

pub(crate) fn texts(cases: &Value) -> Vec<&str> {
    let texts = cases["texts"].as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_f64().unwrap() as f32).collect()
}

pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let each = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    each.fold(0.0, f32::max)
}

/// How a case embeds.
pub(crate) fn options(case: &Value) -> EmbedOptions {
    let mut options = EmbedOptions::new();
    options.prompt_name = case["prompt_name"].as_str().map(str::to_owned);
    options.dimensions = case["dimensions"].as_u64().map(|n| n as usize);
    options
}

/// What a case expects.
pub(crate) fn expected(case: &Value) -> Vec<Vec<f32>> {
    let rows = case["expected"].as_array().unwrap().iter();
    rows.map(floats).collect()
}

#[test]
fn embeddings_equal_sentence_transformers() {
    let cases = cases();
    let texts = texts(&cases);
    let mut all: Vec<(String, Vec<Vec<f32>>)> = Vec::new();
    for case in cases["embeddings"].as_array().unwrap() {
        let dir = directory(&case["files"]);
        let (options, expected) = (options(case), expected(case));
        for plain in [false, true] {
            let backend = load(dir.path(), plain);
            let found = backend.embed(&texts, &options).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                let error = distance(found, expected);
                assert!(error < 1e-4, "{}, plain {plain}: {error}", case["name"]);
            }
            assert_eq!(found.len(), expected.len());
            let alone = backend.embed(&texts[1..2], &options).unwrap();
            assert_eq!(alone[0], found[1], "{}", case["name"]);
        }
        all.push((case["name"].as_str().unwrap().to_owned(), expected));
    }
    // What each setting does can be told apart; "default" is "query" by another way.
    for (i, (a, x)) in all.iter().enumerate() {
        for (b, y) in &all[..i] {
            let same = x[0].len() == y[0].len() && distance(&x[0], &y[0]) < 1e-2;
            assert_eq!(
                same,
                (b.as_str(), a.as_str()) == ("query", "default"),
                "{a}, {b}"
            );
        }
    }
}

#[test]
fn without_modules_it_is_the_last_token_normalised() {
    let cases = cases();
    let texts = texts(&cases);
    let dir = directory(&json!({}));
    let found = load(dir.path(), false)
        .embed(&texts, &EmbedOptions::new())
        .unwrap();
    let expected = floats(&cases["embeddings"][0]["expected"][3]);
    assert!(distance(&found[3], &expected) < 1e-4);
}

#[test]
fn scores_equal_transformers() {
    let cases = cases();
    let texts = texts(&cases);
    let dir = directory(&json!({}));
    for plain in [false, true] {
        let backend = load(dir.path(), plain);
        let mut all = Vec::new();
        for rank in cases["rerank"].as_array().unwrap() {
            let mut options = RerankOptions::new();
            options.instruction = rank["instruction"].as_str().map(str::to_owned);
            let found = backend.rerank(texts[0], &texts[1..], &options).unwrap();
            let error = distance(&found, &floats(&rank["scores"]));
            assert!(error < 1e-4, "plain {plain}: {error}");
            all.push(found);
        }
        assert!(distance(&all[0], &all[1]) > 1e-3, "{all:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    let module = |kind: &str, path: &str| json!({"type": format!("x.{kind}"), "path": path});
    let mean = json!({"pooling_mode": "mean"});
    let stages = |last: Value| json!([module("Transformer", ""), last]);
    for (files, expected) in [
        (json!({"modules.json": 7}), "is no list"),
        (json!({"modules.json": []}), "names no Pooling"),
        (json!({"modules.json": [{"type": 1}]}), "module 0"),
        (
            json!({"modules.json": stages(module("Pooling", "../x"))}),
            "no folder of this",
        ),
        (
            json!({"modules.json": stages(module("Pooling", "/etc"))}),
            "no folder of this",
        ),
        (
            json!({"modules.json": stages(module("Pooling", "p"))}),
            "is missing",
        ),
        (
            json!({"modules.json": stages(module("Dense", "p")), "p/config.json": mean}),
            "x.Dense",
        ),
        (
            json!({"modules.json": stages(module("Pooling", "p")), "p/config.json": {"pooling_mode": "sum"}}),
            "\"sum\" is none of",
        ),
        (
            json!({"modules.json": stages(module("Pooling", "p")), "p/config.json": {"pooling_mode": []}}),
            "0 pooling modes",
        ),
        (
            json!({"config_sentence_transformers.json": {"prompts": []}}),
            "'prompts'",
        ),
        (
            json!({"config_sentence_transformers.json": {"default_prompt_name": "q"}}),
            "\"q\"",
        ),
    ] {
        let dir = directory(&files);
        let error = load(dir.path(), false)
            .embed(&["a"], &EmbedOptions::new())
            .unwrap_err();
        let line = error.to_string();
        assert!(matches!(error, Error::Embedding { .. }), "{line}");
        assert!(line.contains(expected) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn options_are_checked_and_cancelling_ends_it() {
    let dir = directory(&json!({}));
    let backend = load(dir.path(), false);
    for options in [
        EmbedOptions::new().dimensions(0),
        EmbedOptions::new().dimensions(33),
    ] {
        let error = backend.embed(&["a"], &options).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
    }
    let named = EmbedOptions::new().prompt_name("query");
    let error = backend.embed(&["a"], &named).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has no prompt \"query\"; this model has none"),
        "{error}"
    );
    // A text is cut, as sentence-transformers does it, and what cannot fit by far is not made into tokens.
    let long = "garden ".repeat(3000);
    let found = backend.embed(&[&long], &EmbedOptions::new()).unwrap();
    let ids = backend.encode(&long).unwrap();
    let cut = [&ids[..2047], &ids[ids.len() - 1..]].concat();
    let of_cut = backend.embed_ids(&cut, &EmbedOptions::new()).unwrap();
    assert_eq!(found[0], of_cut);
    let error = backend.embed_ids(&ids, &EmbedOptions::new()).unwrap_err();
    assert!(error.to_string().contains("2048"), "{error}");
    let endless = "garden ".repeat(300_000);
    let error = backend
        .embed(&[&endless], &EmbedOptions::new())
        .unwrap_err();
    assert!(matches!(error, Error::PromptTooLarge { .. }), "{error}");
    let token = CancelToken::new();
    token.cancel();
    let error = backend
        .embed(&["a"], &EmbedOptions::new().cancel(token))
        .unwrap_err();
    assert!(
        matches!(error, Error::CancelledTexts { done: 0, of: 1 }),
        "{error}"
    );
}
