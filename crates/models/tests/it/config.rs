//! What people's `config.json` and `generation_config.json` say, in all the ways in which Python and its
//! libraries write it. Expectations are what transformers 5.24 and mlx-lm 0.32.2 make of the same files,
//! and for the context vLLM's rule.

use std::path::Path;

use crate::common::{Expected, fixture, load_from, logits_in_chunks, open_device, relative_error};
use mlx_core::Dtype;
use models::ModelInfo;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of a fixture in which `change` has edited `config.json`.
fn with_config(name: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
    dir
}

fn with_key(key: &str, value: Value) -> Result<ModelInfo, models::Error> {
    let dir = with_config("qwen3-tied", |config| config[key] = value);
    ModelInfo::read(dir.path())
}

fn with_generation_config(text: &str) -> ModelInfo {
    let dir = with_config("qwen3-tied", |config| {
        config["eos_token_id"] = json!(7);
        config["bos_token_id"] = Value::Null;
    });
    std::fs::write(dir.path().join("generation_config.json"), text).unwrap();
    ModelInfo::read(dir.path()).unwrap()
}

fn assert_logits(dir: &Path, reference: &str) {
    open_device();
    let expected = Expected::read(reference);
    let (ids, logits) = (expected.ints("input_ids"), expected.floats("logits"));
    let model = load_from(dir, Some(Dtype::Float32));
    let found = logits_in_chunks(&model, &mut model.new_cache(), &ids, &[7]);
    let error = relative_error(&found, &logits, model.info().vocab_size);
    assert!(error <= 1e-4, "{reference}: relative error {error:.2e}");
}

fn remove(config: &mut Value, key: &str) -> Value {
    config.as_object_mut().unwrap().remove(key).unwrap()
}

#[test]
fn floats_that_python_writes_do_no_harm_where_nobody_reads_them() {
    let dir = with_config("qwen3-tied", |config| {
        config["aux_coef"] = json!({"__float__": "-Infinity"});
        config["attention_dropout"] = json!("MARK");
    });
    let path = dir.path().join("config.json");
    for literal in ["Infinity", "-Infinity", "NaN"] {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"MARK\"", literal)).unwrap();
        assert_logits(dir.path(), "qwen3-tied");
        std::fs::write(&path, text).unwrap();
    }
    let error = with_key("rope_theta", json!({"__float__": "NaN"})).unwrap_err();
    assert!(error.to_string().contains("rope_theta") && error.to_string().contains("NaN"));
}

#[test]
fn small_values_that_transformers_accepts() {
    let info = with_key("bos_token_id", json!(-1)).unwrap();
    assert_eq!((info.bos_token_id, info.warnings.len()), (None, 1));
    let info = with_key("eos_token_id", json!([-1, 5, "</s>", 1_u64 << 40])).unwrap();
    assert_eq!((info.eos_token_ids, info.warnings.len()), (vec![5], 3));
    for (key, value) in [
        ("quantization", json!({})),
        ("quantization_config", json!({})),
        ("hidden_act", json!("swish")),
        ("max_window_layers", json!(1_u64 << 40)),
    ] {
        let dir = with_config("qwen3-tied", |config| config[key] = value);
        assert_logits(dir.path(), "qwen3-tied");
    }
    let dir = with_config("gemma3-long", |config| {
        remove(config, "hidden_activation");
        config["hidden_act"] = json!("gelu");
    });
    assert_logits(dir.path(), "gemma3-long");
    for (value, context) in [
        (json!(1_u64 << 40), 1 << 40),
        (json!(2_147_483_648_u64), 1 << 31),
        (json!(1e30), 1 << 53),
        (json!({"__float__": "Infinity"}), 1 << 53),
    ] {
        let info = with_key("max_position_embeddings", value).unwrap();
        assert_eq!(info.context, Some(context));
    }
    for wrong in [json!(0), json!(-1), json!(1.5), json!("long")] {
        let error = with_key("max_position_embeddings", wrong).unwrap_err();
        assert!(
            error.to_string().contains("max_position_embeddings"),
            "{error}"
        );
    }
}

#[test]
fn the_advice_of_a_generation_config_is_read() {
    let info = with_generation_config(
        r#"{"do_sample": false, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05,
            "repetition_penalty": 1.1, "eos_token_id": [7, 9], "typical_p": NaN}"#,
    );
    let advice = &info.generation;
    assert_eq!(advice.do_sample, Some(false));
    assert_eq!((advice.temperature, advice.top_k), (Some(0.6), Some(20)));
    assert_eq!((advice.top_p, advice.min_p), (Some(0.95), Some(0.05)));
    assert_eq!(advice.repetition_penalty, Some(1.1));
    assert_eq!((info.eos_token_ids, info.warnings), (vec![7, 9], vec![]));
}

#[test]
fn a_generation_config_that_cannot_be_used_is_left_out_with_a_warning() {
    for broken in ["", "{\"top_k\": 20,}", "[]", "null", "{", "\u{feff}{}"] {
        let info = with_generation_config(broken);
        assert_eq!(info.generation, Default::default(), "{broken}");
        assert_eq!(info.warnings.len(), 1, "{broken}: {:?}", info.warnings);
        assert!(info.warnings[0].contains("generation_config.json"));
        assert_eq!(info.eos_token_ids, [7]);
    }
    for (key, values) in [
        (
            "temperature",
            &["\"0.6\"", "-1", "NaN", "Infinity", "1e300", "[1]", "true"][..],
        ),
        ("top_k", &["-1", "\"20\"", "1.5", "NaN"]),
        ("top_p", &["\"auto\"", "0", "1.5", "-0.1", "NaN"]),
        ("min_p", &["-0.1", "2", "\"0\""]),
        ("repetition_penalty", &["0", "-1", "1e-60", "1e60", "\"1\""]),
        ("do_sample", &["\"false\"", "0", "1"]),
        ("eos_token_id", &["-1", "\"<|im_end|>\"", "1.5", "{}"]),
    ] {
        for value in values {
            let text = format!("{{\"{key}\": {value}, \"bos_token_id\": 3}}");
            let info = with_generation_config(&text);
            assert_eq!(info.generation, Default::default(), "{text}");
            assert_eq!(
                (info.bos_token_id, info.eos_token_ids),
                (Some(3), vec![7]),
                "{text}"
            );
            let [warning] = &info.warnings[..] else {
                panic!("{text}: {:?}", info.warnings)
            };
            assert!(
                warning.contains(key) && warning.contains("left out"),
                "{warning}"
            );
            assert!(!warning.contains('\n'));
        }
    }
    // What one value is does not touch the others.
    let info = with_generation_config(
        r#"{"temperature": "0.6", "top_k": 1000000000000, "top_p": 0.9, "eos_token_id": [-1, 9]}"#,
    );
    assert_eq!(
        (info.generation.top_p, info.generation.temperature),
        (Some(0.9), None)
    );
    assert_eq!(
        (info.generation.top_k, info.eos_token_ids),
        (Some(1_000_000_000_000), vec![7, 9])
    );
    assert_eq!(info.warnings.len(), 2);
    // No value at all, as transformers has it.
    let info = with_generation_config(r#"{"top_k": 0, "temperature": null, "eos_token_id": []}"#);
    assert_eq!(
        (info.generation, info.warnings),
        (Default::default(), vec![])
    );
}

/// `max_model_len` as vLLM derives it from the same objects.
#[test]
fn scaling_that_extends_the_context_extends_it() {
    let context = |name: &str, max: Value, scaling: Value, key: &str| {
        let dir = with_config(name, |config| {
            for old in ["rope_scaling", "rope_parameters"] {
                config.as_object_mut().unwrap().remove(old);
            }
            config["max_position_embeddings"] = max;
            config[key] = scaling;
        });
        ModelInfo::read(dir.path()).unwrap().context
    };
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    let card = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768});
    let default = json!({"rope_type": "yarn", "factor": 2.5});
    let linear = json!({"rope_type": "linear", "factor": 4.0});
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
    for (max, scaling, expected) in [
        (64, yarn.clone(), 256),
        (40960, card, 131_072),
        (64, default, 160),
        (64, linear.clone(), 256),
        (64, llama3, 64),
        (64, json!({"rope_type": "default"}), 64),
        (64, Value::Null, 64),
    ] {
        for key in ["rope_scaling", "rope_parameters"] {
            let found = context("qwen3-tied", json!(max), scaling.clone(), key);
            assert_eq!(found, Some(expected), "{key}: {scaling}");
        }
    }
    // Of Gemma 3 the published context is the scaled one.
    let linear = json!({"rope_type": "linear", "factor": 8.0});
    for (max, expected) in [(131_072, 131_072), (64, 512), (32768, 131_072)] {
        let found = context("gemma3-long", json!(max), linear.clone(), "rope_scaling");
        assert_eq!(found, Some(expected));
    }
}

/// Both objects at once: the older one says how, and the base beside them counts.
#[test]
fn rope_scaling_counts_beside_rope_parameters() {
    let dir = with_config("qwen3-yarn-hub", |config| {
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 77.0});
    });
    assert_logits(dir.path(), "qwen3-yarn-hub");
    // Without a base beside them, that of rope_parameters.
    let dir = with_config("qwen3-yarn-hub", |config| {
        let theta = remove(config, "rope_theta");
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": theta});
    });
    assert_logits(dir.path(), "qwen3-yarn-hub");
    // What says nothing hides nothing.
    for nothing in [json!({}), Value::Null] {
        let dir = with_config("qwen3-yarn-v5", |config| config["rope_scaling"] = nothing);
        assert_logits(dir.path(), "qwen3-yarn-v5");
    }
    let scaling = json!({"factor": 8.0, "rope_type": "linear"});
    let older = json!({"factor": 8.0, "type": "linear"});
    for scaling in [scaling, older, json!({"factor": 8.0})] {
        let dir = with_config("gemma3-linear-v5", |config| {
            if scaling.get("rope_type").or(scaling.get("type")).is_some() {
                config["rope_parameters"]["full_attention"] =
                    json!({"rope_type": "default", "rope_theta": 1_000_000.0});
            } else {
                config["rope_parameters"]["full_attention"]["factor"] = json!(2.0);
            }
            config["rope_scaling"] = scaling;
        });
        assert_logits(dir.path(), "gemma3-linear-v5");
    }
}

/// Qwen3.5 MoE has no such keys there, and a dynamic scaling begins behind the positions that a model was made for.
#[test]
fn what_transformers_does_not_heed_changes_nothing() {
    let dir = with_config("qwen3_5_moe-hub", |config| {
        let text = &mut config["text_config"];
        text["norm_topk_prob"] = json!(false);
        text["mlp_only_layers"] = json!([0]);
        text["decoder_sparse_step"] = json!(2);
    });
    assert_logits(dir.path(), "qwen3_5_moe-hub");
    let dir = with_config("llama-llama2", |config| {
        config["rope_scaling"] = json!({"type": "dynamic", "factor": 2.0});
    });
    assert_logits(dir.path(), "llama-llama2");
}

#[test]
fn what_would_make_every_logit_no_number_is_refused() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1.0});
    let tiny = json!({"rope_type": "default", "rope_theta": 1e-300});
    let linear = json!({"rope_type": "linear", "factor": 1e300});
    for (rope, named) in [
        (yarn, "rope_theta"),
        (tiny, "rope_theta"),
        (linear, "factor"),
    ] {
        let error = with_key("rope_scaling", rope).unwrap_err().to_string();
        assert!(
            error.contains(named) && error.contains("no logit"),
            "{error}"
        );
    }
    for (key, value) in [
        ("query_pre_attn_scalar", 1e-300),
        ("final_logit_softcapping", 1e-300),
    ] {
        let dir = with_config("gemma3-long", |config| config[key] = json!(value));
        let error = ModelInfo::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    // A base of 1 is no stretch of anything, and transformers computes with it.
    assert!(with_key("rope_theta", json!(1)).is_ok());
}
