//! A GPU that runs out of memory in the middle of an answer.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod common;

use bench_shapes::{Shape, Weights, checkpoint};
use ml_backend::{Device, Error, MlxBackend, Options};
use mlx_core::{Array, Dtype, device, memory};
use serde_json::json;

/// Takes the GPU's memory, down to gaps of less than 1 MiB: keys and values fit into small gaps. Plain
/// allocations only.
fn fill_the_gpu() -> Vec<Array> {
    let mut ballast = Vec::new();
    // Floats of 4 GiB, 512 MiB, 64 MiB, 8 MiB and 1 MiB.
    for floats in [1 << 30, 128 << 20, 16 << 20, 2 << 20, 256 << 10] {
        while let Ok(array) = Array::zeros(&[floats], Dtype::Float32)
            && array.eval().is_ok()
        {
            ballast.push(array);
        }
        let free = device::free_memory().expect("CUDA tells it");
        println!("{} arrays, {free:?} bytes free", ballast.len());
    }
    ballast
}

/// The GPU is full but for this many floats while `work` runs.
fn with_room_for<T>(floats: i32, work: impl FnOnce() -> T) -> T {
    let spare = Array::zeros(&[floats], Dtype::Float32).unwrap();
    spare.eval().unwrap();
    let ballast = fill_the_gpu();
    drop(spare);
    memory::clear_cache().unwrap();
    let result = work();
    drop(ballast);
    device::synchronize().unwrap();
    memory::clear_cache().unwrap();
    result
}

#[test]
fn a_gpu_that_is_full_ends_a_generation_and_the_next_one_works() {
    if common::device() != Device::Cuda {
        eprintln!("skipped: ML_TEST_DEVICE is not cuda");
        return;
    }
    // Keys and values of a token are 128 kB: the caches soon need more than is left.
    let config = json!({
        "model_type": "qwen3", "hidden_size": 512, "num_hidden_layers": 32, "intermediate_size": 512,
        "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 1000,
        "tie_word_embeddings": true,
    });
    let shape = Shape::of("deep", config).unwrap();
    let dir = tempfile::tempdir().unwrap();
    checkpoint::write_hollow(dir.path(), &shape, Weights::Bf16).unwrap();
    let backend = MlxBackend::builder()
        .device(Device::Cuda)
        .random_weights(true)
        .load(dir.path())
        .unwrap();
    let options = |tokens| {
        let options = Options::new().temperature(0.0).ignore_eos(true);
        options.max_tokens(tokens)
    };
    let prompt = [5, 6, 7];
    let before = backend.generate_ids(&prompt, &options(50)).unwrap();
    let fails = |prompt: &[u32]| {
        let result = backend.generate_ids(prompt, &options(4000));
        let Err(Error::Interrupted { partial, source }) = result else {
            panic!("the GPU is full: {result:?}");
        };
        println!("after {} tokens: {source}", partial.token_ids.len());
        assert!(source.to_string().contains("out of memory"), "{source}");
        partial.token_ids
    };
    let works = || {
        let after = backend.generate_ids(&prompt, &options(50)).unwrap();
        assert_eq!(after.token_ids, before.token_ids);
    };

    device::open(device::Choice::Cuda).unwrap();
    // Room for the first caches and none to three larger ones, so that what fails is another allocation
    // each time: a decode step is so fast that memory has to be taken before the generation and not
    // beside it.
    for floats in [45_000_000, 58_000_000, 75_000_000, 76_000_000, 95_000_000] {
        let partial = with_room_for(floats, || fails(&prompt));
        assert_eq!(partial[..50], before.token_ids);
        works();
    }
    let long = vec![5; 3000];
    let partial = with_room_for(50_000_000, || fails(&long));
    assert!(partial.is_empty(), "{partial:?}");
    works();
}

#[test]
fn a_model_that_is_too_large_is_refused_before_it_is_loaded() {
    if common::device() != Device::Cuda {
        eprintln!("skipped: ML_TEST_DEVICE is not cuda");
        return;
    }
    let published: Shape = "qwen3-8b".parse().unwrap();
    let mut config = published.config(Weights::Bf16);
    // Embedding and head take 330 GB each.
    config["vocab_size"] = json!(40_000_000);
    let shape = Shape::of("huge", config).unwrap();
    let dir = tempfile::tempdir().unwrap();
    checkpoint::write_hollow(dir.path(), &shape, Weights::Bf16).unwrap();
    let loading = MlxBackend::builder().device(Device::Cuda).load(dir.path());
    let error = loading.err().expect("it does not fit");
    assert!(matches!(error, Error::TooLittleMemory { .. }), "{error}");
    println!("{error}");
}
