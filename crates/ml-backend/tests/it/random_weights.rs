//! Models of any size without their files: what benchmarks run.

use bench_shapes::{Shape, Weights, checkpoint};
use kernels::Isa;
use kernels::bf12::Bf12;
use ml_backend::{DeviceKind, MlxBackend, Options};
use serde_json::{Value, json};

/// A small model of any family, with windows and heads of keys of that size and number.
pub(crate) fn config(model_type: &str, window: usize, key_heads: usize) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 256, "num_hidden_layers": 7,
        "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": key_heads,
        "head_dim": 64, "vocab_size": 1000, "sliding_window": window,
        "tie_word_embeddings": model_type.starts_with("gemma"),
        // What is left out is as large as the largest model that was published.
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 64, "linear_value_head_dim": 64,
        "vocab_size_per_layer_input": 1000, "hidden_size_per_layer_input": 64,
        "num_kv_shared_layers": 0,
    })
}

fn shape(model_type: &str) -> Shape {
    Shape::of("tiny", config(model_type, 16, 2)).expect("a shape")
}

fn load(dir: &std::path::Path, random: bool) -> MlxBackend {
    MlxBackend::builder()
        .device(crate::common::device())
        .random_weights(random)
        .load(dir)
        .expect("a hollow checkpoint loads")
}

#[test]
fn drawn_weights_behave_as_trained_ones_do() {
    for family in arch::families::ALL {
        let family = family.model_types[0];
        for weights in [Weights::Q4, Weights::Q8, Weights::Bf16] {
            let dir = tempfile::tempdir().unwrap();
            checkpoint::write_hollow(dir.path(), &shape(family), weights).unwrap();
            let backend = load(dir.path(), true);
            let logits = backend.logits(&[5, 900, 17]).unwrap();
            assert_eq!(logits.len(), 3 * 1000);
            // A normalized vector through a matrix that keeps its size: about one.
            let square = |row: &[f32]| row.iter().map(|v| f64::from(v * v)).sum::<f64>() / 1000.0;
            for row in logits.chunks(1000) {
                let size = square(row).sqrt();
                assert!((0.3..3.0).contains(&size), "{family} in {weights}: {size}");
            }
            assert_ne!(logits[..1000], logits[1000..2000]);

            let again = load(dir.path(), true).logits(&[5, 900, 17]).unwrap();
            assert_eq!(again, logits, "the same weights each time");
            let zeros = load(dir.path(), false).logits(&[5]).unwrap();
            assert!(zeros.iter().all(|v| *v == 0.0), "the file is hollow");

            let options = Options::new()
                .temperature(0.0)
                .ignore_eos(true)
                .max_tokens(20);
            let answer = backend.generate_ids(&[5; 30], &options).unwrap();
            assert_eq!(answer.token_ids.len(), 20);
        }
    }
}

/// 128 columns in each row of the tiny shape's matrices, or a multiple of them.
#[test]
fn bfloat16_is_held_in_12_bits_only_if_that_is_not_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    checkpoint::write_hollow(dir.path(), &shape("qwen3"), Weights::Bf16).unwrap();
    let load = |encode: bool| {
        let builder = MlxBackend::builder().device(crate::common::device());
        let builder = builder.random_weights(true).encode_bf16(encode);
        builder.load(dir.path()).unwrap()
    };
    let (plain, encoded) = (load(false), load(true));
    let bytes = plain.info().model.weight_bytes;
    assert_eq!(plain.info().held_bytes, bytes);
    let encodes = match plain.info().device.kind {
        DeviceKind::Cpu => Isa::chosen().is_ok_and(Bf12::pays),
        other => other == DeviceKind::Cuda,
    };
    let held = encoded.info().held_bytes;
    match encodes {
        true => assert!(held * 100 < bytes * 80, "{held} of {bytes}"),
        false => assert_eq!(held, bytes),
    }
    // The matrices are the same, and only sums are rounded otherwise.
    let [plain, encoded] = [plain, encoded].map(|b| b.logits(&[5, 900, 17]).unwrap());
    let far = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let apart: f64 = plain.iter().zip(&encoded).map(far).sum();
    let size: f64 = plain.iter().map(|v| f64::from(*v).powi(2)).sum();
    assert!(apart < 4e-4 * size, "{apart} of {size}");
}
