//! Mixtures of experts: what of their files and configurations is refused, and how.

use crate::common::{fixture, load};
use crate::edit::Edited;
use kernels::graph;
use mlx_core::device::{self, Choice};
use mlx_core::{DeviceKind, Dtype};
use models::ModelInfo;
use serde_json::{Value, json};

/// What is said of the case `name` with another configuration and other tensors.
fn refusal(
    name: &str,
    config: impl FnOnce(&mut Value),
    change: impl FnOnce(&mut Edited),
) -> String {
    let mut edited = Edited::of(name).config(config);
    change(&mut edited);
    let edited = edited.single();
    let message = ModelInfo::read(edited.path())
        .expect_err("was accepted")
        .to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn an_expert_that_is_missing_is_named() {
    let gone = "model.layers.1.mlp.experts.5.up_proj.weight";
    let message = refusal(
        "qwen3_moe-hub",
        |_| {},
        |edited| drop(edited.tensors.remove(gone).unwrap()),
    );
    assert_says(&message, &[gone, "missing"]);
    // No configuration makes the check long.
    let many = refusal(
        "qwen3_moe-hub",
        |config| config["num_experts"] = json!(2_000_000_000),
        |_| {},
    );
    assert_says(&many, &["mlp.gate.weight", "2000000000"]);
    let fewer = refusal(
        "qwen3_moe-v5",
        |config| config["num_local_experts"] = json!(7),
        |_| {},
    );
    assert_says(&fewer, &["mlp.gate.weight", "[8, 24]", "[7, 24]"]);
    let narrow = refusal(
        "qwen3_moe-v5",
        |config| config["moe_intermediate_size"] = json!(8),
        |_| {},
    );
    assert_says(
        &narrow,
        &["mlp.experts.gate_up_proj", "[8, 32, 24]", "[8, 16, 24]"],
    );
    let stack = "model.layers.0.mlp.switch_mlp.down_proj.weight";
    let message = refusal(
        "qwen3_moe-switch",
        |_| {},
        |edited| drop(edited.tensors.remove(stack).unwrap()),
    );
    assert_says(
        &message,
        &["model.layers.0.mlp.experts.0.down_proj.weight", "missing"],
    );
}

#[test]
fn a_layer_is_dense_or_sparse_as_the_configuration_says() {
    let dense = refusal(
        "qwen3_moe-hub",
        |config| config["mlp_only_layers"] = json!([1]),
        |_| {},
    );
    assert_says(&dense, &["model.layers.1.mlp.gate_proj.weight", "missing"]);
    let sparse = refusal(
        "qwen3_moe-only",
        |config| config["mlp_only_layers"] = json!([]),
        |_| {},
    );
    assert_says(&sparse, &["model.layers.1.mlp.gate.weight", "missing"]);
    let every_other = refusal(
        "qwen2_moe-hub",
        |config| config["decoder_sparse_step"] = json!(2),
        |_| {},
    );
    assert_says(
        &every_other,
        &["model.layers.0.mlp.gate_proj.weight", "missing"],
    );
}

#[test]
fn keys_that_make_no_mixture_are_named() {
    for (key, value, parts) in [
        (
            "num_experts_per_tok",
            json!(9),
            ["num_experts_per_tok", "9 of 8"],
        ),
        (
            "num_experts_per_tok",
            json!(0),
            ["num_experts_per_tok", "found 0"],
        ),
        ("num_experts", json!(-1), ["num_experts", "-1"]),
        (
            "moe_intermediate_size",
            json!("x"),
            ["moe_intermediate_size", "x"],
        ),
        (
            "decoder_sparse_step",
            json!(0),
            ["decoder_sparse_step", "found 0"],
        ),
        ("mlp_only_layers", json!("all"), ["mlp_only_layers", "all"]),
        ("mlp_only_layers", json!([0.5]), ["mlp_only_layers", "0.5"]),
        ("norm_topk_prob", json!(1), ["norm_topk_prob", "1"]),
    ] {
        let message = refusal("qwen3_moe-hub", |config| config[key] = value, |_| {});
        assert_says(&message, &parts);
    }
}

#[test]
fn experts_of_a_layer_are_stored_alike() {
    // As if one had been left out of a quantization.
    let path = "model.layers.0.mlp.switch_mlp.gate_proj";
    let message = refusal(
        "qwen3_moe-q8-g32",
        |_| {},
        |edited| {
            for part in ["weight", "scales", "biases"] {
                let stack = edited.tensors.remove(&format!("{path}.{part}")).unwrap();
                let (count, bytes) = (stack.shape[0], stack.bytes.len() / stack.shape[0]);
                for expert in 0..count {
                    let mut one = stack.clone();
                    one.shape.remove(0);
                    one.bytes = stack.bytes[expert * bytes..][..bytes].to_vec();
                    let name = format!("model.layers.0.mlp.experts.{expert}.gate_proj.{part}");
                    edited.tensors.insert(name, one);
                }
            }
            let of = |name: &str| format!("model.layers.0.mlp.experts.2.gate_proj.{name}");
            edited.tensors.remove(&of("scales")).unwrap();
            edited.tensors.remove(&of("biases")).unwrap();
            let mut dense = edited.tensors["model.layers.0.mlp.experts.0.gate_proj.scales"].clone();
            dense.shape = vec![64, 64];
            dense.bytes = vec![60; 64 * 64 * 2];
            edited.tensors.insert(of("weight"), dense);
        },
    );
    assert_says(&message, &["experts.2.gate_proj.weight", "stored alike"]);
}

/// Nothing of a mixture falls to single operations on a processor, in whichever way its files have it.
#[test]
fn experts_run_in_the_one_operation_of_all_blocks() {
    device::open(Choice::Cpu).unwrap();
    let names = [
        "qwen3_moe-hub",
        "qwen3_moe-v5",
        "qwen3_moe-switch",
        "qwen3_moe-mxfp4",
        "qwen2_moe-q4-g64",
    ];
    for name in names {
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let model = load(name, Some(dtype));
            assert!(model.states().is_some(), "{name}, {dtype}");
            assert!(model.together() > 1, "{name}, {dtype}");
            let plan = model.info().plan(DeviceKind::Cpu);
            assert!(
                plan.iter().all(|step| step.slower.is_none()),
                "{name}, {dtype}"
            );
        }
    }
    graph::force_mlx(true);
    assert!(load(names[0], None).states().is_none());
}

#[test]
fn what_a_token_uses_is_counted() {
    let info = ModelInfo::read(&fixture("qwen3_moe-hub")).unwrap();
    // Two layers have 8 experts of 3 matrices of 16 x 24, of which a token has 2.
    assert_eq!(info.idle_parameters, 2 * 6 * 3 * 16 * 24);
    assert!(info.parameters > info.idle_parameters);
    assert_eq!(
        ModelInfo::read(&fixture("qwen3-tied"))
            .unwrap()
            .idle_parameters,
        0
    );
}
