//! Gemma 3n: what its files may have beside the text model, how its configuration is spelled, and what of both is
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

const CASE: &str = "gemma3n-e2b-hub";
const PREFIX: &str = "model.language_model.";

/// A tensor of some shape that nobody asks for.
fn unasked() -> Tensor {
    Tensor {
        dtype: Stored::F32,
        shape: vec![3, 5],
        bytes: (0..60).collect(),
    }
}

/// How far the logits of the directory are from those of the case.
fn error_of(dir: &Path) -> f64 {
    device::open(Choice::Cpu).unwrap();
    let expected = Expected::read(CASE);
    let model = load_from(dir, Some(Dtype::Float32));
    let (ids, vocab) = (expected.ints("input_ids"), model.info().vocab_size);
    let found = logits_in_chunks(&model, &mut model.new_cache(), &ids, &[7]);
    relative_error(&found, &expected.floats("logits"), vocab)
}

/// Released files have encoders of images and sound, and keys and values of layers that share those of others.
#[test]
fn what_the_text_model_does_not_use_is_ignored() {
    let mut edited = Edited::of(CASE);
    for name in [
        "model.vision_tower.timm_model.blocks.0.0.conv_exp.weight",
        "model.audio_tower.conformer.0.norm.weight",
        "model.embed_vision.embedding_projection.weight",
        "model.embed_audio.hard_embedding_norm.weight",
        "model.language_model.layers.3.self_attn.k_proj.weight",
        "model.language_model.layers.3.self_attn.v_proj.weight",
        "model.language_model.layers.3.self_attn.k_norm.weight",
        "model.language_model.layers.4.self_attn.k_proj.weight",
    ] {
        assert!(edited.tensors.insert(name.to_owned(), unasked()).is_none());
    }
    assert!(error_of(edited.single().path()) < 1e-4);
}

#[test]
fn tensors_may_have_other_prefixes() {
    for prefix in ["language_model.model.", "model.", ""] {
        let renamed = Edited::of(CASE).renamed(|name| {
            let below = name.strip_prefix(PREFIX)?;
            Some(format!("{prefix}{below}"))
        });
        assert!(error_of(renamed.single().path()) < 1e-4, "{prefix}");
    }
}

/// A token without a row in the table of inputs has the first one's: here the last 16 of 96 tokens.
#[test]
fn tokens_without_a_row_of_their_own_are_among_those_compared() {
    let ids = Expected::read(CASE).ints("input_ids");
    assert!(ids.iter().any(|id| *id >= 80) && ids.iter().any(|id| *id < 80));
}

/// The table of inputs is read where it lies, in the dtype that it has; layers that share keys own none.
#[test]
fn bytes_are_those_of_what_is_held() {
    device::open(Choice::Cpu).unwrap();
    let info = ModelInfo::read(&fixture("gemma3n-bf16")).unwrap();
    let table = 80 * 3 * 8;
    assert_eq!(info.bytes_as(None), 2 * info.parameters);
    let wide = info.bytes_as(Some(Dtype::Float32));
    assert_eq!(wide, 4 * (info.parameters - table) + 2 * table);
    assert_eq!(info.idle_parameters, 79 * 3 * 8);
    let model = load("gemma3n-bf16", Some(Dtype::Float32));
    assert_eq!(model.held_bytes(), wide);
    // Of three layers the last one has the keys of the first: a window of 8, and a full one.
    assert_eq!(info.cache_bytes(100), 2 * 16 * 2 * (8 + 100));
}

#[test]
fn all_of_it_is_one_operation_on_a_processor() {
    device::open(Choice::Cpu).unwrap();
    for name in [CASE, "gemma3n-active", "gemma3n-q4-g32", "gemma3n-q8-g64"] {
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let model = load(name, Some(dtype));
            assert!(model.states().is_some(), "{name}, {dtype}");
            assert!(model.together() > 1, "{name}, {dtype}");
            let plan = model.info().plan(DeviceKind::Cpu);
            let slower = plan.iter().find(|step| step.slower.is_some());
            assert!(slower.is_none(), "{name}, {dtype}: {slower:?}");
            let on_gpus = model.info().plan(DeviceKind::Cuda);
            let streams = on_gpus.iter().find(|step| step.part.contains("streams"));
            assert!(
                streams.is_some_and(|step| step.slower.is_some()),
                "{on_gpus:?}"
            );
        }
    }
}

fn read(config: &Value) -> Result<Config, String> {
    Config::of_json(Path::new("config.json"), config).map_err(|error| error.to_string())
}

fn of_case(name: &str) -> Value {
    arch::read_json(&fixture(name).join("config.json")).unwrap()
}

/// What transformers 5.24 fills in.
#[test]
fn what_is_left_out_is_what_transformers_takes() {
    let text = json!({"model_type": "gemma3n_text", "num_hidden_layers": 35});
    let config = read(&text).unwrap();
    let model = &config.model;
    assert_eq!((model.hidden_size(), model.vocab_size()), (2048, 262_400));
    assert_eq!((config.context, model.softcap), (Some(32_768), Some(30.0)));
    let kinds: Vec<_> = model
        .states
        .iter()
        .filter_map(arch::State::keys)
        .map(|s| (s.heads, s.head_dim, s.window))
        .collect();
    assert_eq!(kinds.len(), 20);
    assert_eq!(kinds[3..5], [(2, 256, Some(512)), (2, 256, None)]);
    let states = model.layers.iter().map(|l| l.attention().unwrap().state);
    let states: Vec<usize> = states.collect();
    assert_eq!(states[18..25], [18, 19, 18, 18, 18, 18, 19]);
    assert_eq!(model.layers[34].mlp.part.width(), 16_384);
    let cut = |i: usize| model.layers[i].mlp.part.gated().unwrap().cut;
    // Python's `statistics.NormalDist().inv_cdf(0.95)`.
    assert!((cut(9).unwrap() - 1.644_853_626_951_472_7).abs() < 1e-12);
    assert_eq!(cut(10), None);
    let altup = model.layers[0].altup.as_ref().unwrap();
    assert_eq!(
        (altup.streams, altup.active, altup.laurel.left.rows),
        (4, 0, 64)
    );
    assert!(altup.output_scale.is_some());
    let inputs = model.per_layer.as_ref().unwrap();
    assert_eq!((inputs.width, inputs.embedding.table.rows), (256, 262_144));
    let ropes = [0, 1].map(|i| model.ropes[i].theta);
    assert_eq!(ropes, [1e6, 1e4]);

    // No layer is cut where they are few, and null squashes nothing.
    let few = json!({"model_type": "gemma3n_text", "num_hidden_layers": 10, "num_kv_shared_layers": 0,
        "final_logit_softcapping": null});
    let config = read(&few).unwrap();
    let gated = |layer: &arch::Layer<String>| layer.mlp.part.gated().unwrap().cut;
    assert!(
        config
            .model
            .layers
            .iter()
            .all(|layer| gated(layer).is_none())
    );
    assert_eq!(config.model.softcap, None);
}

#[test]
fn settings_that_are_not_supported_are_named() {
    let refused = |key: &str, value: Value| {
        let mut config = of_case(CASE);
        config["text_config"][key] = value;
        let message = read(&config).expect_err("was accepted");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains(key), "'{key}' is not in: {message}");
        message
    };
    refused("num_kv_shared_layers", json!(5));
    let none = refused("num_kv_shared_layers", json!(3));
    assert!(none.contains("layer 2"), "{none}");
    refused("use_bidirectional_attention", json!(true));
    refused("hidden_activation", json!("silu"));
    refused("intermediate_size", json!([16, 16, 16, 16]));
    refused("intermediate_size", json!([16, 16, 0, 16, 16]));
    refused("intermediate_size", json!("16"));
    refused("activation_sparsity_pattern", json!(0.95));
    refused("activation_sparsity_pattern", json!([0.5, 0.5, 0.5, 0.5]));
    refused(
        "activation_sparsity_pattern",
        json!([0.5, 0.5, 1.0, 0.5, 0.0]),
    );
    refused("altup_active_idx", json!(4));
    refused("altup_num_inputs", json!(0));
    refused("altup_num_inputs", json!(1_000_000_000));
    refused("altup_correct_scale", json!(1));
    refused("laurel_rank", json!(0));
    refused("hidden_size_per_layer_input", json!(0));
    refused("hidden_size_per_layer_input", json!(2_000_000_000));
}

#[test]
fn tensors_that_are_missing_are_named() {
    for gone in [
        "layers.1.altup.modality_router.weight",
        "layers.4.altup.correct_output_scale",
        "layers.0.altup.prediction_coefs.weight",
        "layers.2.laurel.post_laurel_norm.weight",
        "layers.2.self_attn.v_proj.weight",
        "altup_projections.2.weight",
        "altup_unembed_projections.0.weight",
        "embed_tokens_per_layer.weight",
    ] {
        let gone = format!("{PREFIX}{gone}");
        let mut edited = Edited::of(CASE);
        drop(edited.tensors.remove(&gone).unwrap());
        let found = ModelInfo::read(edited.single().path());
        let message = found.unwrap_err().to_string();
        let named = message.contains(&gone) && message.contains("missing");
        assert!(named, "{message}");
    }
    // What is not used need not be there.
    let mut edited = Edited::of(CASE).config(|config| {
        config["text_config"]["altup_correct_scale"] = json!(false);
    });
    edited
        .tensors
        .retain(|name, _| !name.ends_with("correct_output_scale"));
    assert!(error_of(edited.single().path()) > 1e-2);
}
