//! The CUDA decode kernel, run on this machine as C++, every thread of it a fiber: the logits and caches of small
//! models equal float64, and those of tokens that go through together are those of each alone, bit by bit.
//!
//! That finds wrong results, tiles that are used before they have arrived, and missing barriers between blocks. It
//! finds no races in general. `tools/decode/check.py` does the same for more models.

mod checks;
pub(crate) mod compile;
mod decoder;
pub(crate) mod model;
mod reference;
mod units;

use checks::{CAPACITY, check_alone, check_together};
use compile::compiler;
use decoder::Decoder;
use kernels::decode::{Packing, Sizes};
use model::{Model, TARGET};

use crate::common::Rng;

/// Queries and keys with norms, two query heads a key head.
fn qwen3(packing: Packing) -> Sizes {
    Sizes {
        sliding: vec![false; 2],
        hidden: 256,
        intermediate: 512,
        vocab: 331,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        layers: packing,
        embedding: packing,
        head: packing,
        head_norms: true,
        eps: 1e-6,
        embed_scale: 1.0,
        full: [0.125, 1.0],
        windowed: [0.125, 1.0],
        ..Sizes::default()
    }
}

/// Biases, seven query heads a key head, and no norms of heads.
fn qwen2() -> Sizes {
    Sizes {
        hidden: 288,
        intermediate: 416,
        heads: 7,
        kv_heads: 1,
        head_norms: false,
        qkv_biases: true,
        ..qwen3(Packing::Dense)
    }
}

/// Windows, norms behind, caps, positions that are scaled in full layers, and wide heads.
fn gemma() -> Sizes {
    Sizes {
        sliding: vec![true, false, true],
        hidden: 288,
        intermediate: 416,
        heads: 2,
        kv_heads: 1,
        head_dim: 256,
        norms_behind: true,
        gelu: true,
        embed_scale: 17.0,
        softcap: 30.0,
        score_cap: 2.0,
        full: [0.0625, 0.125],
        windowed: [0.0625, 1.0],
        ..qwen3(Packing::Dense)
    }
}

const FOUR_BITS: Packing = Packing::Affine { bits: 4, group: 64 };
const WINDOW: usize = 24;

fn random(sizes: Sizes, seed: u64) -> Model {
    assert!(sizes.fit(TARGET));
    let window = if sizes.sliding.contains(&true) {
        WINDOW
    } else {
        0
    };
    Model::random(sizes, window, &mut Rng::new(seed))
}

/// Checks a model with a token alone, and so many together.
fn check(name: &str, sizes: Sizes, together: &[usize]) {
    let Some(compiler) = compiler() else { return };
    let model = random(sizes, 5);
    let decoder = |tokens| Decoder::new(&compiler, name, &model, tokens, CAPACITY, |source| source);
    let mut alone = decoder(1);
    check_alone(&mut alone, 7).unwrap();
    for &tokens in together {
        check_together(&mut alone, &mut decoder(tokens), tokens, 9).unwrap();
    }
}

#[test]
fn a_model_in_bfloat16_equals_float64_and_several_tokens_each_alone() {
    check("qwen3", qwen3(Packing::Dense), &[8, 16]);
}

#[test]
fn a_model_in_four_bits_equals_float64_and_several_tokens_each_alone() {
    check("qwen3_four_bits", qwen3(FOUR_BITS), &[8, 16]);
}

#[test]
fn a_model_in_twelve_bits_equals_float64_and_many_tokens_each_alone() {
    check("qwen3_twelve_bits", qwen3(Packing::Bf12), &[16]);
}

#[test]
fn windows_norms_behind_and_caps_equal_float64_and_several_tokens_each_alone() {
    check("gemma", gemma(), &[8, 16]);
}

#[test]
fn biases_equal_float64_and_many_tokens_each_alone() {
    check("qwen2", qwen2(), &[16]);
}

/// The source with the one place of `right` made `wrong`.
fn mutated(source: &str, right: &str, wrong: &str) -> String {
    assert_eq!(source.matches(right).count(), 1, "`{right}` is there once");
    source.replacen(right, wrong, 1)
}

/// Asserts that the kernel is found to be wrong with the one place of `right` made `wrong`.
fn fails(name: &str, sizes: Sizes, right: &str, wrong: &str) {
    let Some(compiler) = compiler() else { return };
    let model = random(sizes, 5);
    let mutate = |source: String| mutated(&source, right, wrong);
    let mut decoder = Decoder::new(&compiler, name, &model, 1, CAPACITY, mutate);
    let found = check_alone(&mut decoder, 7).expect_err(name);
    println!("{name}: {found}");
}

#[test]
fn a_missing_barrier_is_found() {
    let wait = "if (threadIdx.x == 0) {\n            add_release(arrived);\n            while (read_acquire(arrived) < goal) {";
    let none =
        "if (threadIdx.x == 0) {\n            add_release(arrived);\n            while (false) {";
    fails("no_barrier", qwen3(Packing::Dense), wait, none);
}

#[test]
fn a_missing_wait_for_tiles_is_found() {
    let right = "copies_wait<RING_STAGES - 1>();";
    fails(
        "no_wait",
        qwen3(Packing::Dense),
        right,
        "copies_wait<RING_STAGES>();",
    );
}

#[test]
fn a_window_wrong_by_one_is_found() {
    let right = "Context{ring_place, ring_held,";
    fails(
        "window",
        gemma(),
        right,
        "Context{ring_place, larger(1, ring_held - 1),",
    );
}

#[test]
fn a_missing_scale_is_found() {
    fails(
        "scale",
        qwen3(Packing::Dense),
        "* scale * bf16_low(weight[i])",
        "* bf16_low(weight[i])",
    );
}

#[test]
fn rare_elements_left_out_are_found() {
    let right = "add_rare(stage, input, upper);";
    fails("no_rare", qwen3(Packing::Bf12), right, "");
}

/// Not even the last bit of a logit may depend on what else goes through.
#[test]
fn a_sum_in_another_order_is_found() {
    let Some(compiler) = compiler() else { return };
    let model = random(qwen3(Packing::Dense), 5);
    let mut alone = Decoder::new(&compiler, "order", &model, 1, CAPACITY, |source| source);
    let mut together = Decoder::new(&compiler, "order", &model, 8, CAPACITY, |source| {
        let right = "upper[j] += c[0][j] + c[1][j];";
        mutated(&source, right, "upper[j] = upper[j] + c[0][j] + c[1][j];")
    });
    check_together(&mut alone, &mut together, 8, 9).expect_err("in another order");
}
