//! gpt-oss: the ways in which files have its experts, and what runs them.

use crate::common::{Expected, fixture, load, load_with, logits_in_chunks, open_device};
use crate::edit::{Edited, Tensor};
use mlx_core::device::{self, Choice};
use mlx_core::{DeviceKind, Dtype};
use models::{LoadOptions, ModelInfo};
use safetensors::Dtype as Stored;
use serde_json::json;

const FORMS: [&str; 5] = [
    "gpt_oss-hub",
    "gpt_oss-v5",
    "gpt_oss-switch",
    "gpt_oss-mxfp4",
    "gpt_oss-q4-g64",
];

/// In whichever way files have the experts, nothing falls to single operations on a processor, and on a GPU only a
/// token is not one kernel.
#[test]
fn each_device_runs_it_the_fast_way() {
    device::open(Choice::Cpu).unwrap();
    for name in FORMS {
        for dtype in [Dtype::Float32, Dtype::Bfloat16] {
            let model = load(name, Some(dtype));
            assert!(model.states().is_some(), "{name}, {dtype}");
            let plan = model.info().plan(DeviceKind::Cpu);
            assert!(plan.iter().all(|step| step.slower.is_none()), "{plan:?}");
        }
        let mut info = ModelInfo::read(&fixture(name)).unwrap();
        info.dtype = Dtype::Bfloat16;
        for device in [DeviceKind::Cuda, DeviceKind::Metal] {
            let plan = info.plan(device);
            assert!(plan.iter().all(|step| step.slower.is_none()), "{plan:?}");
        }
    }
}

/// Rows that files have by turns are those that mlx-lm stores apart: the logits are the same to the bit.
#[test]
fn experts_as_released_are_those_that_mlx_lm_makes_of_them() {
    open_device();
    let mut edited = Edited::of("gpt_oss-hub").config(|config| {
        config["quantization"] = json!({"group_size": 32, "bits": 4, "mode": "mxfp4"});
        config
            .as_object_mut()
            .unwrap()
            .remove("quantization_config");
    });
    let stored = std::mem::take(&mut edited.tensors);
    for (name, tensor) in stored {
        let Some((path, leaf)) = name.split_once(".experts.") else {
            edited.tensors.insert(name, tensor);
            continue;
        };
        let matrices: &[&str] = match leaf.starts_with("gate_up") {
            true => &["gate_proj", "up_proj"],
            false => &["down_proj"],
        };
        let (_, part) = leaf.rsplit_once('_').unwrap();
        let part = if part == "blocks" { "weight" } else { part };
        for (turn, matrix) in matrices.iter().enumerate() {
            let rows = by_turns(&tensor, turn, matrices.len(), part == "weight");
            let name = format!("{path}.experts.{matrix}.{part}");
            edited.tensors.insert(name, rows);
        }
    }
    let edited = edited.single();
    let ids = Expected::read("gpt_oss-hub").ints("input_ids");
    let logits = |model: &models::Model| -> Vec<u32> {
        let logits = logits_in_chunks(model, &mut model.new_cache(), &ids, &[7]);
        logits.into_iter().map(f32::to_bits).collect()
    };
    let released = load("gpt_oss-hub", None);
    let made = load_with(edited.path(), &LoadOptions::new());
    assert_eq!(released.held_bytes(), made.held_bytes());
    assert_eq!(released.info().parameters, made.info().parameters);
    assert!(logits(&released) == logits(&made));
}

/// Every `turns`th row of each expert, and of codes their words.
fn by_turns(tensor: &Tensor, turn: usize, turns: usize, words: bool) -> Tensor {
    let [count, rows] = [tensor.shape[0], tensor.shape[1]];
    let bytes = tensor.bytes.len() / (count * rows);
    let all = tensor.bytes.chunks_exact(bytes).enumerate();
    let own = all.filter(|(row, _)| row % rows % turns == turn);
    let mut shape = tensor.shape.clone();
    shape[1] = rows / turns;
    if words {
        shape.truncate(2);
        shape.push(bytes / 4);
    }
    Tensor {
        dtype: if words { Stored::U32 } else { tensor.dtype },
        shape,
        bytes: own.flat_map(|(_, row)| row.to_vec()).collect(),
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_named() {
    let experts = "model.layers.1.mlp.experts";
    for (name, gone) in [
        ("gpt_oss-hub", format!("{experts}.gate_up_proj_blocks")),
        ("gpt_oss-hub", format!("{experts}.down_proj_scales")),
        ("gpt_oss-hub", format!("{experts}.gate_up_proj_bias")),
        ("gpt_oss-v5", format!("{experts}.down_proj_bias")),
        ("gpt_oss-switch", format!("{experts}.up_proj.bias")),
        ("gpt_oss-mxfp4", format!("{experts}.gate_proj.scales")),
        ("gpt_oss-hub", "model.layers.0.self_attn.sinks".to_owned()),
        ("gpt_oss-hub", "model.layers.0.mlp.router.bias".to_owned()),
    ] {
        let mut edited = Edited::of(name);
        assert!(edited.tensors.remove(&gone).is_some(), "{gone}");
        let edited = edited.single();
        let message = ModelInfo::read(edited.path()).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(
            message.contains(&gone) && message.contains("missing"),
            "{message}"
        );
    }
    for (key, value, parts) in [
        (
            "intermediate_size",
            json!(40),
            ["gate_up_proj_blocks", "[5, 80, 1, 16]"],
        ),
        (
            "num_experts_per_tok",
            json!(6),
            ["num_experts_per_tok", "6 of 5"],
        ),
        ("swiglu_limit", json!(0), ["swiglu_limit", "above zero"]),
        (
            "swiglu_alpha",
            json!(1e300),
            ["swiglu_alpha", "out of range"],
        ),
        ("hidden_act", json!("gelu"), ["hidden_act", "gelu"]),
        (
            "num_local_experts",
            json!(2_000_000_000),
            ["mlp.router.weight", "2000000000"],
        ),
    ] {
        let edited = Edited::of("gpt_oss-hub").config(|config| config[key] = value);
        let edited = edited.single();
        let message = ModelInfo::read(edited.path()).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

/// Only the headers count: what is drawn is as large as what would be read, and gives numbers.
#[test]
fn weights_can_be_drawn_in_the_released_form() {
    open_device();
    for name in FORMS {
        let model = load_with(&fixture(name), &LoadOptions::new().random_weights(true));
        assert_eq!(model.held_bytes(), load(name, None).held_bytes(), "{name}");
        let ids: Vec<i32> = (4..20).collect();
        let logits = logits_in_chunks(&model, &mut model.new_cache(), &ids, &[5]);
        assert!(logits.iter().all(|x| x.is_finite()), "{name}");
        let (first, others) = logits.split_first().unwrap();
        assert!(others.iter().any(|x| x != first), "{name}");
    }
}
