//! Gemma 4: what its files may have beside the text model, how its configuration is spelled, and what of both is
//! refused.

use std::path::Path;

use crate::common::{Expected, fixture, load, load_from, logits_in_chunks, relative_error};
use crate::edit::{Edited, Tensor};
use arch::Config;
use mlx_core::device::{self, Choice};
use mlx_core::{DeviceKind, Dtype};
use models::ModelInfo;
use safetensors::Dtype as Stored;
use serde_json::{Value, json};

const CASE: &str = "gemma4-e2b-hub";

/// A tensor of some shape that nobody asks for.
fn unasked() -> Tensor {
    Tensor {
        dtype: Stored::F32,
        shape: vec![3, 5],
        bytes: (0..60).collect(),
    }
}

/// Fails unless the directory gives the logits of the case.
fn assert_same_logits(dir: &Path) {
    device::open(Choice::Cpu).unwrap();
    let expected = Expected::read(CASE);
    let model = load_from(dir, Some(Dtype::Float32));
    let (ids, vocab) = (expected.ints("input_ids"), model.info().vocab_size);
    let found = logits_in_chunks(&model, &mut model.new_cache(), &ids, &[7]);
    let error = relative_error(&found, &expected.floats("logits"), vocab);
    assert!(error < 1e-4, "{error:.2e}");
}

/// Released files have encoders of images and sound, and keys and values of layers that share those of others.
#[test]
fn what_the_text_model_does_not_use_is_ignored() {
    let mut edited = Edited::of(CASE);
    for name in [
        "model.vision_tower.encoder.layers.0.mlp.up_proj.linear.weight",
        "model.audio_tower.layers.0.norm_out.weight",
        "model.embed_vision.embedding_projection.weight",
        "model.embed_audio.embedding_projection.weight",
        "model.language_model.layers.0.self_attn.q_proj.input_max",
        "model.language_model.layers.3.self_attn.k_proj.weight",
        "model.language_model.layers.3.self_attn.v_proj.weight",
        "model.language_model.layers.3.self_attn.k_norm.weight",
        "model.language_model.layers.4.self_attn.k_proj.weight",
    ] {
        assert!(edited.tensors.insert(name.to_owned(), unasked()).is_none());
    }
    assert_same_logits(edited.single().path());
}

#[test]
fn tensors_may_have_mlx_names() {
    let renamed = Edited::of(CASE).renamed(|name| {
        let below = name.strip_prefix("model.language_model.")?;
        Some(format!("language_model.model.{below}"))
    });
    assert_same_logits(renamed.single().path());
}

/// The table of inputs is read where it lies, in the dtype that it has; all other floats are cast.
#[test]
fn a_table_that_is_only_read_by_rows_stays_as_it_is() {
    device::open(Choice::Cpu).unwrap();
    let info = ModelInfo::read(&fixture("gemma4-bf16")).unwrap();
    let table = 96 * 4 * 8;
    assert_eq!(info.bytes_as(None), 2 * info.parameters);
    let wide = info.bytes_as(Some(Dtype::Float32));
    assert_eq!(wide, 4 * (info.parameters - table) + 2 * table);
    // Of it a token has a row.
    assert_eq!(info.idle_parameters, 95 * 4 * 8);
    let model = load("gemma4-bf16", Some(Dtype::Float32));
    assert_eq!(model.held_bytes(), wide);
}

#[test]
fn all_of_it_is_one_operation_on_a_processor() {
    device::open(Choice::Cpu).unwrap();
    for name in [
        CASE,
        "gemma4-31b-hub",
        "gemma4-26b_moe-switch",
        "gemma4-nested-q8-g32",
    ] {
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let model = load(name, Some(dtype));
            assert!(model.states().is_some(), "{name}, {dtype}");
            assert!(model.together() > 1, "{name}, {dtype}");
            let plan = model.info().plan(DeviceKind::Cpu);
            let slower = plan.iter().find(|step| step.slower.is_some());
            assert!(slower.is_none(), "{name}, {dtype}: {slower:?}");
        }
    }
}

fn read(config: &Value) -> Result<Config, String> {
    Config::of_json(Path::new("config.json"), config).map_err(|error| error.to_string())
}

fn of_case(name: &str) -> Value {
    arch::read_json(&fixture(name).join("config.json")).unwrap()
}

fn without(config: &mut Value, key: &str) {
    config.as_object_mut().unwrap().remove(key).unwrap();
}

/// As published, and as transformers 5 writes it.
#[test]
fn both_spellings_are_one_model() {
    let hub = of_case("gemma4-31b-hub");
    let mut map = hub.clone();
    for key in ["global_head_dim", "num_global_key_value_heads"] {
        without(&mut map, key);
    }
    let full = json!({"head_dim": 32, "num_key_value_heads": 1});
    map["per_layer_config"] = json!({"02": full, "04": full});
    assert_eq!(read(&hub).unwrap().model, read(&map).unwrap().model);

    let hub = of_case("gemma4-26b_moe-switch");
    let mut local = hub.clone();
    local["num_local_experts"] = local["num_experts"].clone();
    without(&mut local, "num_experts");
    assert_eq!(read(&hub).unwrap().model, read(&local).unwrap().model);
}

/// What transformers 5.24 fills in.
#[test]
fn what_is_left_out_is_what_transformers_takes() {
    let text = json!({"model_type": "gemma4_text", "num_hidden_layers": 30});
    let config = read(&text).unwrap();
    let model = &config.model;
    assert_eq!((model.hidden_size(), model.vocab_size()), (2304, 262_144));
    assert_eq!((config.context, model.softcap), (Some(131_072), None));
    let kinds: Vec<_> = model
        .states
        .iter()
        .filter_map(arch::State::keys)
        .map(|s| (s.heads, s.head_dim, s.window))
        .collect();
    assert_eq!(kinds[4..6], [(4, 256, Some(512)), (4, 512, None)]);
    assert_eq!(model.layers[0].attention().unwrap().heads, 8);
    assert_eq!(model.layers[29].mlp.part.width(), 9216);
    let inputs = model.per_layer.as_ref().unwrap();
    assert_eq!((inputs.width, inputs.embedding.table.rows), (256, 262_144));

    let unified = json!({"model_type": "gemma4_unified_text", "num_hidden_layers": 30});
    let config = read(&unified).unwrap();
    assert_eq!(config.context, Some(262_144));
    assert_eq!(config.model.states[0].window(), Some(1024));
    assert!(config.model.per_layer.is_none());
    // Published files say so of models that have no such input.
    let mut null = text;
    null["hidden_size_per_layer_input"] = Value::Null;
    assert!(read(&null).unwrap().model.per_layer.is_none());
}

#[test]
fn settings_that_are_not_supported_are_named() {
    let refused = |name: &str, key: &str, value: Value| {
        let mut config = of_case(name);
        let text = match config.get_mut("text_config") {
            Some(text) => text,
            None => &mut config,
        };
        text[key] = value;
        let message = read(&config).expect_err("was accepted");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains(key), "'{key}' is not in: {message}");
        message
    };
    refused(CASE, "num_kv_shared_layers", json!(5));
    // Only sliding layers have keys then, which a full one cannot use.
    let none = refused(CASE, "num_kv_shared_layers", json!(3));
    assert!(none.contains("layer 2"), "{none}");
    refused(CASE, "use_bidirectional_attention", json!("all"));
    refused(CASE, "vocab_size_per_layer_input", json!(95));
    refused(CASE, "hidden_activation", json!("silu"));
    refused(CASE, "per_layer_config", json!({"5": {"head_dim": 32}}));
    refused(CASE, "per_layer_config", json!({"2": {"head_dim": 32}}));
    let other = json!({"2": {"intermediate_size": 32}, "4": {"intermediate_size": 32}});
    assert!(refused(CASE, "per_layer_config", other).contains("intermediate_size"));
    refused("gemma4-26b_moe-hub", "top_k_experts", json!(7));
    refused("gemma4-26b_moe-hub", "moe_intermediate_size", Value::Null);
    let ropes =
        json!({"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 1.5}});
    let mut config = of_case("gemma4-31b-hub");
    config["rope_parameters"] = ropes;
    assert!(read(&config).unwrap_err().contains("partial_rotary_factor"));
}

#[test]
fn tensors_that_are_missing_are_named() {
    for (name, gone) in [
        (CASE, "model.language_model.layers.1.layer_scalar"),
        (CASE, "model.language_model.embed_tokens_per_layer.weight"),
        (
            CASE,
            "model.language_model.layers.2.self_attn.v_proj.weight",
        ),
        (
            "gemma4-26b_moe-hub",
            "model.language_model.layers.0.router.scale",
        ),
        (
            "gemma4-26b_moe-hub",
            "model.language_model.layers.1.router.per_expert_scale",
        ),
    ] {
        let mut edited = Edited::of(name);
        drop(edited.tensors.remove(gone).unwrap());
        let message = ModelInfo::read(edited.single().path())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(gone) && message.contains("missing"),
            "{message}"
        );
    }
}
