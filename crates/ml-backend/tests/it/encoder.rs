//! Embeddings of a bidirectional model equal those of sentence-transformers in float64 for the same directory
//! (`tools/reference/encoder.py`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;

use ml_backend::{Backend, CancelToken, Dtype, EmbedOptions, Error, Message, MlxBackend, Options};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::embedding::{copy_into, distance, expected, load, options, texts, write_into};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/encoder")
}

fn cases() -> Value {
    serde_json::from_str(&fs::read_to_string(fixture().join("cases.json")).unwrap()).unwrap()
}

/// The model's directory, with the tokenizer of the causal one and these files.
fn directory(files: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_into(&fixture().join("model"), dir.path());
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        let from = fixture().join("../embedding/model").join(file);
        fs::copy(from, dir.path().join(file)).unwrap();
    }
    write_into(files, dir.path());
    dir
}

/// The directory of a case.
fn case(cases: &Value, name: &str) -> TempDir {
    let mut all = cases["embeddings"].as_array().unwrap().iter();
    directory(&all.find(|case| case["name"] == name).unwrap()["files"])
}

#[test]
fn embeddings_equal_sentence_transformers() {
    let cases = cases();
    let texts = texts(&cases);
    let mut all: Vec<(String, Vec<Vec<f32>>)> = Vec::new();
    let mut largest = [0.0_f32; 2];
    for case in cases["embeddings"].as_array().unwrap() {
        let dir = directory(&case["files"]);
        let expected = expected(case);
        for plain in [false, true] {
            let found = load(dir.path(), plain)
                .embed(&texts, &options(case))
                .unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let error = distance(found, expected);
                assert!(error < 1e-4, "{}, plain {plain}: {error}", case["name"]);
                let largest = &mut largest[usize::from(plain)];
                *largest = largest.max(error);
            }
        }
        all.push((case["name"].as_str().unwrap().to_owned(), expected));
    }
    println!("largest error of our kernels, and of MLX's operations: {largest:?}");
    // The causal mask, other windows, no dense layers: none of them is another one.
    for (i, (a, x)) in all.iter().enumerate() {
        for (b, y) in &all[..i] {
            let other = x[0].len() != y[0].len() || distance(&x[0], &y[0]) > 1e-2;
            assert!(other, "{a}, {b}");
        }
    }
}

const F32: Option<Dtype> = Some(Dtype::Float32);

/// Texts of all lengths, in one call, in calls of their own and while others are served.
#[test]
fn a_text_gives_the_same_bits_whatever_is_beside_it() {
    let dir = case(&cases(), "whole");
    let words = "The garden has seven old trees and 12 birds. ".repeat(16);
    let all: Vec<&str> = (0..60).map(|i| &words[..(i * 13 + 1) % 701]).collect();
    // In float32, and in bfloat16 as it is stored, which has products of its own.
    for (plain, dtype) in [(false, None), (false, F32), (true, F32)] {
        let builder = MlxBackend::builder().device(crate::common::device());
        let builder = builder.dtype(dtype).plain_mlx(plain);
        let backend = builder.load(dir.path()).unwrap();
        let together = backend.embed(&all, &EmbedOptions::new()).unwrap();
        for (text, together) in all.iter().zip(&together) {
            let alone = backend.embed(&[text], &EmbedOptions::new()).unwrap();
            assert_eq!(&alone[0], together, "{} bytes", text.len());
        }
        thread::scope(|scope| {
            for part in all.chunks(7) {
                let (backend, all, together) = (&backend, &all, &together);
                scope.spawn(move || {
                    let made = backend.embed(part, &EmbedOptions::new()).unwrap();
                    for (text, made) in part.iter().zip(&made) {
                        let at = all.iter().position(|other| other == text).unwrap();
                        assert_eq!(made, &together[at]);
                    }
                });
            }
        });
    }
}

#[test]
fn without_modules_it_is_the_mean_normalised() {
    let cases = cases();
    let dir = case(&cases, "no dense");
    let wanted = load(dir.path(), false)
        .embed(&texts(&cases), &EmbedOptions::new())
        .unwrap();
    fs::remove_file(dir.path().join("modules.json")).unwrap();
    let found = load(dir.path(), false)
        .embed(&texts(&cases), &EmbedOptions::new())
        .unwrap();
    assert_eq!(found, wanted);
}

#[test]
fn ids_are_embedded_as_they_are() {
    let cases = cases();
    let dir = case(&cases, "whole");
    let backend = load(dir.path(), false);
    let text = texts(&cases)[0];
    let ids = backend.encode(text).unwrap();
    let of_ids = backend.embed_ids(&ids, &EmbedOptions::new()).unwrap();
    let of_text = backend.embed(&[text], &EmbedOptions::new()).unwrap();
    assert_eq!(of_ids, of_text[0]);
    // Text is cut at 512 tokens, ids are not, up to the context of 1024.
    let long: Vec<u32> = (0..1024).map(|i| i * 7 % 600).collect();
    assert!(backend.embed_ids(&long, &EmbedOptions::new()).is_ok());
    let longer = backend.embed_ids(&vec![5; 1025], &EmbedOptions::new());
    let line = longer.unwrap_err().to_string();
    assert!(
        line.contains("1025 tokens") && line.contains("1024"),
        "{line}"
    );
}

#[test]
fn such_a_model_writes_nothing() {
    let dir = case(&cases(), "whole");
    let backend = load(dir.path(), false);
    let options = Options::new();
    for refused in [
        backend.generate("a", &options).map(drop),
        backend.chat(&[Message::user("a")], &options).map(drop),
        backend.generate_ids(&[1], &options).map(drop),
        backend.logits(&[1]).map(drop),
        backend.rerank("a", &["b"], &Default::default()).map(drop),
    ] {
        let line = refused.unwrap_err().to_string();
        let says = line.contains("embeds texts and writes none") && line.contains("ml embed");
        assert!(says && !line.contains('\n'), "{line}");
    }
}

#[test]
fn prompts_that_are_not_there_are_told_from_those_that_are() {
    let dir = case(&cases(), "whole");
    let named = EmbedOptions::new().prompt_name("document\n");
    let line = load(dir.path(), false)
        .embed(&["a"], &named)
        .unwrap_err()
        .to_string();
    let expected = r#"has no prompt "document\n"; there are "document", "query""#;
    assert!(line.ends_with(expected), "{line}");
}

/// What a caller waits for ends between two passes, and answers the others' calls meanwhile.
#[test]
fn a_long_list_can_be_cancelled_and_lets_others_in() {
    let dir = case(&cases(), "whole");
    let backend = load(dir.path(), false);
    let text = "The garden has seven old trees. ".repeat(12);
    let list = vec![&text[..]; 3000];
    let (cancel, (done, ended)) = (CancelToken::new(), channel());
    thread::scope(|scope| {
        let (backend, cancel) = (&backend, &cancel);
        scope.spawn(move || {
            let options = EmbedOptions::new().cancel(cancel.clone());
            done.send(backend.embed(&list, &options)).unwrap();
        });
        let short = backend.embed(&["a"], &EmbedOptions::new()).unwrap();
        assert_eq!(short.len(), 1);
        cancel.cancel();
        let outcome = ended.recv().unwrap();
        assert!(
            matches!(outcome, Err(Error::CancelledTexts { of: 3000, .. })),
            "it was done before it was cancelled"
        );
    });
}

#[test]
fn what_cannot_be_used_is_refused_in_one_line() {
    let module = |kind: &str, path: &str| json!({"type": format!("x.{kind}"), "path": path});
    let stages = |last: Value| {
        json!([
            module("Transformer", ""),
            module("Pooling", "p"),
            last,
            module("Normalize", "n")
        ])
    };
    let dense = |change: Value| {
        let mut config = json!({"in_features": 16, "out_features": 24, "bias": false,
            "activation_function": "torch.nn.modules.linear.Identity"});
        let all = config.as_object_mut().unwrap();
        all.extend(change.as_object().unwrap().clone());
        json!({"modules.json": stages(module("Dense", "2_Dense")), "2_Dense/config.json": config})
    };
    for (mut files, expected) in [
        (dense(json!({"in_features": 17})), "gives 16 features"),
        (
            dense(json!({"in_features": "16"})),
            "is no number of features",
        ),
        (dense(json!({"out_features": 25})), "[24, 16]"),
        (dense(json!({"bias": true})), "\"linear.bias\""),
        (dense(json!({"use_residual": true})), "'use_residual'"),
        (
            dense(json!({"module_input_name": "token_embeddings"})),
            "token_embeddings",
        ),
        (
            dense(json!({"activation_function": "torch.nn.modules.activation.GELU"})),
            "GELU",
        ),
        (
            dense(json!({"activation_function": "os.system"})),
            "os.system",
        ),
        (
            json!({"modules.json": stages(module("Dense", "4_Dense"))}),
            "is missing",
        ),
        (
            json!({"modules.json": stages(module("Dense", "2_Dense/../3_Dense"))}),
            "no folder of this",
        ),
        (
            json!({"modules.json": stages(module("Dense", "2_Dense\n"))}),
            "no folder of this",
        ),
        (
            json!({"modules.json": stages(module("LSTM", "2_LSTM"))}),
            "x.LSTM",
        ),
        (
            json!({"sentence_bert_config.json": {"max_seq_length": -1}}),
            "'max_seq_length'",
        ),
        (
            json!({"sentence_bert_config.json": {"do_lower_case": true}}),
            "'do_lower_case'",
        ),
    ] {
        files["p/config.json"] = json!({"pooling_mode": "mean"});
        assert_refused(&directory(&files), expected);
    }
}

fn assert_refused(dir: &TempDir, expected: &str) {
    let refused = load(dir.path(), false).embed(&["a"], &EmbedOptions::new());
    let line = refused.unwrap_err().to_string();
    assert!(line.contains(expected) && !line.contains('\n'), "{line}");
}

/// A link would lead out of the directory. Files may be links: caches of downloads keep them so.
#[cfg(unix)]
#[test]
fn folders_that_are_links_are_refused() {
    use std::os::unix::fs::symlink;

    let cases = cases();
    let dir = case(&cases, "whole");
    let elsewhere = tempfile::tempdir().unwrap();
    let (folder, moved) = (dir.path().join("3_Dense"), elsewhere.path().join("d"));
    fs::create_dir(&moved).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folder.join(file), moved.join(file)).unwrap();
        fs::remove_file(folder.join(file)).unwrap();
        symlink(moved.join(file), folder.join(file)).unwrap();
    }
    let found = load(dir.path(), false).embed(&texts(&cases), &EmbedOptions::new());
    assert_eq!(found.unwrap().len(), 4);
    fs::remove_dir_all(&folder).unwrap();
    symlink(&moved, &folder).unwrap();
    assert_refused(&dir, "is a symbolic link");
}

#[test]
fn dimensions_are_those_of_the_last_layer() {
    let dir = case(&cases(), "one dense");
    let backend = load(dir.path(), false);
    let of = |n: usize| backend.embed(&["a"], &EmbedOptions::new().dimensions(n));
    assert_eq!(of(24).unwrap()[0].len(), 24);
    let line = of(25).unwrap_err().to_string();
    assert!(line.contains("dimensions is 25"), "{line}");
}
