//! Logits and greedy continuations equal those that transformers computed in float64 from the same
//! weights (`tools/reference/logits.py`).

use crate::common::{
    Expected, cases, fixture, greedy, load, load_with, logits_in_chunks, on_both_paths,
    open_device, relative_error,
};
use kernels::bf12::Bf12;
use kernels::{Isa, graph};
use mlx_core::{DeviceKind, Dtype, device};
use models::LoadOptions;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// In float32, for every position.
const FLOAT32_BOUND: f64 = 1e-4;

/// The float64 logits of a quantized case; its `logits` are mlx-lm's in float32.
const EXACT_QUANTIZED: &str = "logits_f64";

/// Sizes of chunks, each taken in turn: of the last, single tokens and several follow each other, as in the
/// turns of a chat.
const CHUNKS: [&[usize]; 4] = [&[1], &[7], &[2048], &[1, 1, 5]];

fn check_family(family: &str) {
    for name in cases(&format!("{family}-")) {
        let expected = Expected::read(&name);
        if expected.is_quantized() {
            continue;
        }
        let (ids, logits) = (expected.ints("input_ids"), expected.floats("logits"));
        let model = load(&name, Some(Dtype::Float32));
        let vocab = model.info().vocab_size;
        let mut cache = model.new_cache();
        for chunk in CHUNKS {
            cache.reset();
            let found = logits_in_chunks(&model, &mut cache, &ids, chunk);
            let error = relative_error(&found, &logits, vocab);
            println!("{name}, chunks of {chunk:?}: {error:.2e}");
            assert!(
                error <= FLOAT32_BOUND,
                "{name}, chunks of {chunk:?}: relative error {error:.2e}"
            );
            assert_eq!(cache.offset() as usize, ids.len());
        }
        let (prompt, continuation) = (expected.ints("prompt_len")[0], expected.ints("greedy"));
        for chunk in CHUNKS {
            cache.reset();
            let prompt = &ids[..prompt as usize];
            let found = greedy(&model, &mut cache, prompt, chunk, continuation.len());
            assert_eq!(found, continuation, "{name}, prefill chunks of {chunk:?}");
        }
    }
}

macro_rules! equal_transformers_in_float32 {
    ($($family:ident)*) => {
        mod equal_transformers_in_float32 {
            $(#[test]
            fn $family() {
                super::on_both_paths(|| super::check_family(stringify!($family)));
            })*

            /// No family is left out.
            #[test]
            fn each_family() {
                let checked = [$(stringify!($family)),*];
                for family in arch::families::ALL {
                    let first = family.model_types[0].trim_end_matches("_text");
                    assert!(checked.contains(&first), "{family:?} has no reference");
                }
            }
        }
    };
}

equal_transformers_in_float32! {
    qwen2 qwen3 llama mistral gemma gemma2 gemma3 gemma3n gemma4 vaultgemma qwen2_moe qwen3_moe qwen3_next qwen3_5 qwen3_5_moe
    gpt_oss
}

/// Quantized checkpoints equal mlx-lm on the same files, and transformers in float64 on weights that
/// were decoded without MLX (`tools/reference/quantized.py`).
#[test]
fn quantized_models_equal_mlx_lm_and_transformers() {
    on_both_paths(check_quantized);
}

fn check_quantized() {
    let mut compared = 0;
    for name in cases("") {
        let expected = Expected::read(&name);
        if !expected.is_quantized() {
            continue;
        }
        let model = load(&name, Some(Dtype::Float32));
        let vocab = model.info().vocab_size;
        let ids = expected.ints("input_ids");
        let mut cache = model.new_cache();
        for chunk in CHUNKS {
            cache.reset();
            let found = logits_in_chunks(&model, &mut cache, &ids, chunk);
            for key in ["logits", EXACT_QUANTIZED] {
                let error = relative_error(&found, &expected.floats(key), vocab);
                println!("{name}, {key}, chunks of {chunk:?}: {error:.2e}");
                assert!(
                    error <= FLOAT32_BOUND,
                    "{name}, {key}, chunks of {chunk:?}: {error:.2e}"
                );
            }
        }
        compared += 1;
    }
    assert!(compared >= 20, "only {compared} quantized cases");
}

/// In half precision the bound is what the reference program itself, run in that dtype, is away
/// from the float64 result: a right implementation may round elsewhere, but not worse than twice
/// that.
#[test]
fn half_precision_is_as_exact_as_the_reference_in_the_same_dtype() {
    on_both_paths(check_half_precision);
}

fn check_half_precision() {
    let mut compared = 0;
    for name in cases("") {
        let expected = Expected::read(&name);
        let exact = if expected.is_quantized() {
            EXACT_QUANTIZED
        } else {
            "logits"
        };
        let exact = expected.floats(exact);
        for (dtype, key) in [
            (Dtype::Bfloat16, "logits_bf16"),
            (Dtype::Float16, "logits_f16"),
        ] {
            if !expected.has(key) {
                continue;
            }
            let ids = expected.ints("input_ids");
            // As stored, and in 12 bits where the device has kernels for that.
            for encode in [false, true] {
                let options = LoadOptions::new().dtype(Some(dtype)).encode(Some(encode));
                let model = load_with(&fixture(&name), &options);
                let vocab = model.info().vocab_size;
                let bound = 2.0 * relative_error(&expected.floats(key), &exact, vocab);
                for chunk in [&[1][..], &[7], &[1, 1, 5]] {
                    let found = logits_in_chunks(&model, &mut model.new_cache(), &ids, chunk);
                    let error = relative_error(&found, &exact, vocab);
                    let what = format!("{name}, {dtype}, encoded {encode}, chunks of {chunk:?}");
                    println!("{what}: {error:.2e} (bound {bound:.2e})");
                    assert!(error <= bound, "{what}: {error:.2e} above {bound:.2e}");
                }
            }
            compared += 1;
        }
    }
    assert!(
        compared >= 20,
        "only {compared} cases have half-precision references"
    );
}

/// What the cases of rows of whole blocks are for: they are compared above in the form in which they
/// are held, which is not the one in which they are stored.
#[test]
fn wide_bf16_matrices_are_held_in_fewer_bytes_where_that_is_faster() {
    open_device();
    let on = device::current().unwrap();
    let encodes = match on {
        DeviceKind::Cpu => Isa::chosen().is_ok_and(Bf12::pays),
        other => other == DeviceKind::Cuda,
    };
    // These are too small to gain anything on a GPU.
    let encode = (on != DeviceKind::Cpu).then_some(true);
    for name in ["qwen3-wide", "gemma3-wide"] {
        let as_float32 = stored_as_float32(name);
        for (dir, dtype, plain_mlx) in [
            (&fixture(name), None, false),
            (&fixture(name), None, true),
            (&fixture(name), Some(Dtype::Float32), false),
            (&as_float32.path().to_owned(), None, false),
            // What counts is the dtype in use, not that of the file.
            (&as_float32.path().to_owned(), Some(Dtype::Bfloat16), false),
        ] {
            graph::force_mlx(plain_mlx);
            let options = LoadOptions::new().dtype(dtype).encode(encode);
            let model = load_with(dir, &options);
            graph::force_mlx(false);
            let (bytes, plain) = (model.held_bytes(), model.info().bytes_as(dtype));
            let what = format!("{name}, {dtype:?}, plain MLX {plain_mlx}: {bytes} of {plain}");
            if encodes && !plain_mlx && model.info().dtype == Dtype::Bfloat16 {
                // With the norms, which stay, and what a row or a unit has beside its elements.
                assert!(
                    bytes * 100 > plain * 75 && bytes * 100 < plain * 79,
                    "{what}"
                );
            } else {
                assert_eq!(bytes, plain, "{what}");
            }
        }
    }
}

/// A copy of a bfloat16 case whose weights are stored as float32.
fn stored_as_float32(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = fixture(name).join("config.json");
    std::fs::copy(config, dir.path().join("config.json")).unwrap();
    let file = std::fs::read(fixture(name).join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&file).unwrap();
    let widened: Vec<(String, Vec<usize>, Vec<u8>)> = stored
        .iter()
        .map(|(name, tensor)| {
            assert_eq!(tensor.dtype(), safetensors::Dtype::BF16, "{name}");
            let wide = tensor.data().chunks_exact(2);
            let wide = wide.flat_map(|x| [0, 0, x[0], x[1]]).collect();
            (name.to_owned(), tensor.shape().to_vec(), wide)
        })
        .collect();
    let views = widened.iter().map(|(name, shape, bytes)| {
        let dtype = safetensors::Dtype::F32;
        let view = TensorView::new(dtype, shape.clone(), bytes).unwrap();
        (name, view)
    });
    let path = dir.path().join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    dir
}
