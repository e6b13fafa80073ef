//! What is wrong is one clear line, and the exit status says whose mistake it is.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{demo, failure, ml, output, stdout, text, without_tokenizer};

#[test]
fn an_instruction_set_that_is_none_is_refused() {
    let mut ml = ml();
    ml.args(["generate", "--prompt", "p", "--model"])
        .arg(demo())
        .env("MLX_BACKEND_ISA", "sse9");
    let error = failure(&mut ml);
    assert!(
        error.contains("'sse9'") && error.contains("portable, neon, avx2"),
        "{error}"
    );
}

#[test]
fn wrong_use_exits_2() {
    let wrong: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["generate"],
        &["generate", "--model", "m"],
        &["generate", "--prompt", "p"],
        &["generate", "--model", "m", "--prompt", "p", "--tokens", "1"],
        &[
            "generate", "--model", "m", "--prompt", "p", "--raw", "--system", "s",
        ],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--json",
            "--print-ids",
        ],
        &["generate", "--model", "m", "--tokens", "1,x"],
        &["generate", "--model", "m", "--tokens", ""],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--json-schema",
            "missing.json",
        ],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--json-object",
            "--regex",
            "a",
        ],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--structure-after",
            "x",
        ],
        &["generate", "--model", "m", "--prompt", "p", "--temp", "-1"],
        &["generate", "--model", "m", "--prompt", "p", "--temp", "nan"],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "p",
            "--max-tokens",
            "0",
        ],
        &[
            "generate", "--model", "m", "--prompt", "p", "--device", "tpu",
        ],
        &[
            "generate", "--model", "m", "--prompt", "p", "--dtype", "int4",
        ],
        &[
            "generate", "--model", "m", "--prompt", "p", "--top-p", "1.5",
        ],
        &["chat"],
        &["chat", "--model", "m", "--tools", "no-such-file"],
        &["chat", "--model", "m", "--tool-choice", "required"],
        &["info"],
        &["logits", "--model", "m", "--tokens", "1"],
        &["embed", "--model", "m", "--out", "f"],
        &["embed", "--model", "m", "--text", "t"],
        &[
            "embed", "--model", "m", "--text", "t", "--tokens", "1", "--out", "f",
        ],
        &[
            "embed",
            "--model",
            "m",
            "--text",
            "t",
            "--dimensions",
            "0",
            "--out",
            "f",
        ],
        &["rerank", "--model", "m", "--query", "q"],
        &["rerank", "--model", "m", "--document", "d"],
        &["logits", "--model", "m", "--out", "f"],
    ];
    for args in wrong {
        let output = output(ml().args(*args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert_ne!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn help_and_version_exit_0() {
    for args in [&["--help"][..], &["--version"], &["generate", "--help"]] {
        assert!(!stdout(ml().args(args)).is_empty(), "{args:?}");
    }
}

fn with_config(config: &str) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    fs::write(dir.path().join("config.json"), config).expect("it can be written");
    dir
}

fn truncated() -> TempDir {
    let dir = without_tokenizer();
    let weights = dir.path().join("model.safetensors");
    let bytes = fs::read(&weights).expect("the demo model has weights");
    fs::write(&weights, &bytes[..bytes.len() / 2]).expect("it can be written");
    dir
}

/// Each directory with what its error line has to name.
fn unusable_directories() -> [(TempDir, &'static str); 4] {
    [
        (TempDir::new().expect("a temporary folder"), "config.json"),
        (with_config(r#"{"model_type": "qwen3","#), "config.json"),
        (with_config(r#"{"model_type": "mamba"}"#), "mamba"),
        (truncated(), "model.safetensors"),
    ]
}

#[test]
fn an_unusable_directory_is_one_clear_line_within_a_second() {
    for (dir, named) in unusable_directories() {
        for command in ["generate", "chat", "info", "logits"] {
            let mut ml = ml();
            ml.arg(command).arg("--model").arg(dir.path());
            match command {
                "generate" => ml.args(["--prompt", "hello"]),
                "logits" => ml
                    .args(["--tokens", "1", "--out"])
                    .arg(dir.path().join("out")),
                _ => &mut ml,
            };
            let start = Instant::now();
            let line = failure(&mut ml);
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?}",
                start.elapsed()
            );
            assert!(line.contains(named), "{line}");
            assert!(line.contains(&*dir.path().to_string_lossy()), "{line}");
        }
    }
}

#[test]
fn an_unsupported_model_type_is_told_what_is_supported() {
    let dir = with_config(r#"{"model_type": "mamba"}"#);
    let line = failure(ml().args(["info", "--model"]).arg(dir.path()));
    assert!(line.contains("qwen3") && line.contains("gemma3"), "{line}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let line = failure(ml().args(["info", "--model", "no/such/model"]));
    assert!(line.contains("no/such/model"), "{line}");
}

#[test]
fn a_missing_accelerator_is_an_error_that_says_so() {
    let missing = if cfg!(target_os = "macos") {
        "cuda"
    } else {
        "metal"
    };
    let mut ml = ml();
    ml.args([
        "generate", "--prompt", "hello", "--device", missing, "--model",
    ])
    .arg(demo());
    let line = failure(&mut ml);
    assert!(line.contains(missing), "{line}");
}

#[test]
fn a_model_that_was_not_pulled_is_told_how() {
    let cache = tempfile::tempdir().unwrap();
    for model in ["someone/small", "Some-Model-4bit@main"] {
        let line = failure(
            ml().env("HF_HUB_CACHE", cache.path())
                .args(["info", "--model", model]),
        );
        assert!(line.contains("`ml pull ") && line.contains(model), "{line}");
    }
    let mut list = ml();
    list.env("HF_HUB_CACHE", cache.path())
        .args(["list", "--json"]);
    assert_eq!(stdout(&mut list), "[]\n");
    let line = failure(
        ml().env("HF_HUB_CACHE", cache.path())
            .args(["rm", "someone/small"]),
    );
    assert!(line.contains("is not in the cache"), "{line}");
    let mut pull = ml();
    pull.env("HF_HUB_CACHE", cache.path())
        .env("HF_HUB_OFFLINE", "1")
        .args(["pull", "someone/small"]);
    assert!(failure(&mut pull).contains("HF_HUB_OFFLINE"));
}

#[test]
fn a_model_in_the_cache_is_run_by_its_name() {
    let cache = tempfile::tempdir().unwrap();
    let model = cache.path().join("models--someone--small");
    std::fs::create_dir_all(model.join("snapshots")).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::os::unix::fs::symlink(demo().canonicalize().unwrap(), model.join("snapshots/ab12"))
        .unwrap();
    std::fs::write(model.join("refs/main"), "ab12").unwrap();
    let mut info = ml();
    info.env("HF_HUB_CACHE", cache.path())
        .args(["info", "--model", "someone/small"]);
    assert!(
        stdout(&mut info).contains("cache_bytes") || stdout(&mut info).contains("bytes a token")
    );
    let mut list = ml();
    list.env("HF_HUB_CACHE", cache.path()).arg("list");
    assert!(stdout(&mut list).contains("someone/small"));
}
