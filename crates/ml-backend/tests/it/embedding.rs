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
    for entry in fs::read_dir(fixture().join("model")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    for (name, value) in files.as_object().unwrap() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }
    dir
}

fn load(dir: &Path, plain: bool) -> MlxBackend {
    let builder = MlxBackend::builder().device(crate::common::device());
    let builder = builder.dtype(Some(Dtype::Float32)).plain_mlx(plain);
    builder.load(dir).unwrap()
}

fn texts(cases: &Value) -> Vec<&str> {
    let texts = cases["texts"].as_array().unwrap().iter();
    texts.map(|text| text.as_str().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    let values = value.as_array().unwrap().iter();
    values.map(|x| x.as_f64().unwrap() as f32).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let each = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    each.fold(0.0, f32::max)
}

#[test]
fn embeddings_equal_sentence_transformers() {
    let cases = cases();
    let texts = texts(&cases);
    let mut all: Vec<(String, Vec<Vec<f32>>)> = Vec::new();
    for case in cases["embeddings"].as_array().unwrap() {
        let dir = directory(&case["files"]);
        let mut options = EmbedOptions::new();
        options.prompt_name = case["prompt_name"].as_str().map(str::to_owned);
        options.dimensions = case["dimensions"].as_u64().map(|n| n as usize);
        let expected: Vec<_> = case["expected"]
            .as_array()
            .unwrap()
            .iter()
            .map(floats)
            .collect();
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
            json!({"modules.json": stages(module("Pooling", "p")), "p/config.json": {"pooling_mode": ["mean", "max"]}}),
            "one can be run",
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
        EmbedOptions::new().prompt_name("query"),
        EmbedOptions::new().dimensions(0),
        EmbedOptions::new().dimensions(33),
    ] {
        let error = backend.embed(&["a"], &options).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
    }
    let long = "garden ".repeat(3000);
    let error = backend.embed(&[&long], &EmbedOptions::new()).unwrap_err();
    assert!(error.to_string().contains("2048"), "{error}");
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
