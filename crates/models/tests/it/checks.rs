//! Damaged or foreign directories are refused with one line that names the cause.

use std::path::Path;

use crate::common::fixture;
use crate::edit::edit_config;
use models::ModelInfo;
use serde_json::{Value, json};

/// A copy of the case `qwen3-tied` that `change` may damage.
fn damaged(change: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("qwen3-tied")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    assert!(ModelInfo::read(dir.path()).is_ok());
    change(dir.path());
    let message = ModelInfo::read(dir.path())
        .expect_err("was accepted")
        .to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn with_config(key: &str, value: Value) -> String {
    damaged(|dir| edit_config(dir, |config| config[key] = value))
}

/// Rewrites the header of the weights file.
fn edit_header(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let mut new = (header.len() as u64).to_le_bytes().to_vec();
    new.extend(header.as_bytes());
    new.extend(&bytes[end..]);
    std::fs::write(path, new).unwrap();
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn a_directory_that_is_none_or_empty() {
    let dir = tempfile::tempdir().unwrap();
    let empty = ModelInfo::read(dir.path()).unwrap_err().to_string();
    assert_says(&empty, &["config.json"]);
    let none = ModelInfo::read(&dir.path().join("absent"))
        .unwrap_err()
        .to_string();
    assert_says(&none, &["absent", "not a directory"]);
}

#[test]
fn a_config_that_is_damaged_or_asks_for_what_is_not_there() {
    let cut = damaged(|dir| std::fs::write(dir.join("config.json"), "{\"model_type\": ").unwrap());
    assert_says(&cut, &["config.json", "not valid JSON"]);
    assert_says(
        &with_config("model_type", json!("mamba")),
        &["mamba", "qwen3", "gemma3_text"],
    );
    assert_says(
        &with_config("model_type", Value::Null),
        &["model_type", "missing"],
    );
    assert_says(
        &with_config("hidden_size", json!("wide")),
        &["hidden_size", "wide"],
    );
    assert_says(
        &with_config("hidden_size", json!(-4)),
        &["hidden_size", "-4"],
    );
    assert_says(
        &with_config("hidden_size", Value::Null),
        &["hidden_size", "missing"],
    );
    assert_says(
        &with_config("num_hidden_layers", json!(1u64 << 40)),
        &["num_hidden_layers"],
    );
    assert_says(
        &with_config("num_key_value_heads", json!(3)),
        &["num_key_value_heads", "3"],
    );
    for family in ["llama", "qwen2", "mistral"] {
        let tiny = damaged(|dir| {
            edit_config(dir, |config| {
                config["model_type"] = json!(family);
                config["hidden_size"] = json!(2);
                config["num_attention_heads"] = json!(4);
                config["num_key_value_heads"] = json!(4);
                config.as_object_mut().unwrap().remove("head_dim");
            });
        });
        assert_says(&tiny, &["hidden_size", "2", "4 heads"]);
    }
    assert_says(
        &with_config("hidden_act", json!("relu")),
        &["hidden_act", "relu", "silu"],
    );
    let rope = json!({"rope_type": "longrope", "factor": 2.0});
    assert_says(
        &with_config("rope_scaling", rope.clone()),
        &["longrope", "yarn"],
    );
    let foreign = json!({"quant_method": "gptq"});
    assert_says(
        &with_config("quantization_config", foreign),
        &["gptq", "mlx_lm.convert"],
    );
}

#[test]
fn tensors_that_do_not_fit_the_config() {
    assert_says(
        &with_config("num_hidden_layers", json!(9)),
        &["layers.", "missing"],
    );
    assert_says(
        &with_config("vocab_size", json!(77)),
        &["embed_tokens", "77"],
    );
    let renamed = damaged(|dir| {
        edit_header(dir, |header| {
            let norm = header
                .as_object_mut()
                .unwrap()
                .remove("model.norm.weight")
                .unwrap();
            header["model.other.weight"] = norm;
        })
    });
    assert_says(&renamed, &["model.norm.weight", "missing"]);
    let wrong_dtype = damaged(|dir| {
        edit_header(dir, |header| {
            header["model.norm.weight"]["dtype"] = json!("I32")
        });
    });
    assert_says(&wrong_dtype, &["model.norm.weight", "int32", "bfloat16"]);
}

#[test]
fn weight_files_that_are_damaged() {
    let path = |dir: &Path| dir.join("model.safetensors");
    let truncated = damaged(|dir| {
        let bytes = std::fs::read(path(dir)).unwrap();
        std::fs::write(path(dir), &bytes[..bytes.len() - 100]).unwrap();
    });
    assert_says(&truncated, &["model.safetensors", "truncated"]);
    let stub = damaged(|dir| std::fs::write(path(dir), b"{}").unwrap());
    assert_says(&stub, &["model.safetensors", "too short"]);
    let pointer = damaged(|dir| {
        std::fs::write(
            path(dir),
            b"version https://git-lfs.github.com/spec/v1\noid ...",
        )
        .unwrap();
    });
    assert_says(&pointer, &["git lfs pull"]);
    let huge_header = damaged(|dir| {
        let mut bytes = std::fs::read(path(dir)).unwrap();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(path(dir), bytes).unwrap();
    });
    assert_says(&huge_header, &["model.safetensors", "header"]);
    let lying = damaged(|dir| {
        edit_header(dir, |header| {
            let offsets = header["model.norm.weight"]["data_offsets"].clone();
            header["model.norm.weight"]["data_offsets"] =
                json!([offsets[0], offsets[1].as_u64().unwrap() + 4]);
        })
    });
    assert_says(&lying, &["model.safetensors", "header"]);
    let gone = damaged(|dir| std::fs::remove_file(path(dir)).unwrap());
    assert_says(&gone, &["model*.safetensors"]);
}

#[test]
fn an_index_that_names_a_missing_or_outside_file() {
    let with_index = |file: &str| {
        let index = json!({"weight_map": {"model.norm.weight": file}});
        damaged(|dir| {
            std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
            // Beside one whole file an index is not read.
            std::fs::remove_file(dir.join("model.safetensors")).unwrap();
        })
    };
    assert_says(
        &with_index("model-00002.safetensors"),
        &["model-00002.safetensors", "missing"],
    );
    assert_says(
        &with_index("../model.safetensors"),
        &["../model.safetensors"],
    );
}
