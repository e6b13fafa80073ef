//! The CUDA decode kernel, run on this machine as C++, every thread of it a fiber: the logits and caches of small
//! models equal float64, and those of tokens that go through together are those of each alone, bit by bit.
//!
//! That finds wrong results, tiles that are used before they have arrived, and missing barriers between blocks. It
//! finds no races in general. `tools/decode/check.py` does the same for more models.

mod compile;
mod decoder;
mod model;
mod reference;
mod units;

use compile::compiler;
use decoder::{Buffers, Decoder, Token};
use kernels::decode::{Packing, Sizes};
use model::{Memory, Model, TARGET};
use reference::{Cache, Reference, Rounding};

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

/// Places of buffers without a window; contexts are below.
const CAPACITY: usize = 320;

/// An empty cache, one with less than a warp reads at a time or a window about to be full, and one that blocks
/// share.
const CONTEXTS: [usize; 4] = [0, WINDOW - 1, 150, 301];

fn random(sizes: Sizes, seed: u64) -> Model {
    assert!(sizes.fit(TARGET));
    let window = if sizes.sliding.contains(&true) {
        WINDOW
    } else {
        0
    };
    Model::random(sizes, window, &mut Rng::new(seed))
}

/// How far `mine` is from `exact`, as a part of its length.
fn error(mine: &[f64], exact: &[f64]) -> f64 {
    let apart: f64 = mine.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
    let length: f64 = exact.iter().map(|x| x * x).sum();
    let error = (apart / length).sqrt();
    if error.is_finite() {
        error
    } else {
        f64::INFINITY
    }
}

fn numbers(buffers: &[Buffers]) -> Vec<Cache> {
    let of = |memory: &Memory| memory.halves().iter().map(|x| x.to_f64()).collect();
    buffers
        .iter()
        .map(|pair| [of(&pair[0]), of(&pair[1])])
        .collect()
}

/// Runs a token at each of the contexts; an error says what differs from float64. Wanted are logits nearer to the
/// exact ones than those of a model that rounds every operation's result, and each near: a token of random weights
/// whose softmax is a near tie may be far away with any rounding, so near is 2%, or twice what roundings of the
/// inputs or of all results do.
fn check_alone(decoder: &mut Decoder<'_>, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let model = decoder.model;
    let (mut mine, mut coarse) = (0.0, 0.0);
    for position in CONTEXTS {
        let caches = decoder.caches(&mut rng);
        let id = rng.bits() as usize % model.sizes.vocab;
        let token = [Some(Token { id, position })];
        let spots = decoder.spots(position);
        let mut written = [caches.clone()];
        let logits = decoder.launch(&token, &mut written)?;
        let mut expected = Vec::new();
        let mut reference = |rounding| {
            let mut caches = numbers(&caches);
            let logits = Reference { model, rounding }.step(id, position, &spots, &mut caches);
            expected.push(caches);
            logits
        };
        let exact = reference(Rounding::Nothing);
        let [inputs, all] =
            [Rounding::Inputs, Rounding::All].map(|rounding| error(&reference(rounding), &exact));
        let logits: Vec<f64> = logits[0].iter().map(|&x| f64::from(x)).collect();
        let off = error(&logits, &exact);
        let near = 2e-2_f64.max(2.0 * all).max(2.0 * inputs);
        // Written so that what is no number fails.
        if !(off < near) {
            return Err(format!(
                "logits at {position} are off by {off:.1e}, which is not near {near:.1e}"
            ));
        }
        mine += off / CONTEXTS.len() as f64;
        coarse += all / CONTEXTS.len() as f64;
        // With inputs rounded as the kernel has them, only sums differ in the first layer.
        check_caches(
            decoder,
            &spots,
            &numbers(&caches),
            &numbers(&written[0]),
            &expected[1],
        )
        .map_err(|what| format!("{what} at {position}"))?;
        let mut again = [written[0].clone()];
        let repeated = decoder.launch(&token, &mut again)?;
        if !same(
            &repeated[0],
            &logits.iter().map(|&x| x as f32).collect::<Vec<_>>(),
        ) {
            return Err(format!("logits at {position} differ from run to run"));
        }
    }
    println!("logits off by {mine:.1e}; rounding all {coarse:.1e}");
    match mine < coarse {
        true => Ok(()),
        false => Err(format!(
            "logits are off by {mine:.1e}, rounding all results by {coarse:.1e}"
        )),
    }
}

/// Whether the new entries are the reference's and all others are as they were.
fn check_caches(
    decoder: &Decoder<'_>,
    spots: &[reference::Spot],
    before: &[Cache],
    written: &[Cache],
    expected: &[Cache],
) -> Result<(), String> {
    let dim = decoder.model.sizes.head_dim;
    for (layer, spot) in spots.iter().enumerate() {
        for kind in 0..2 {
            let is_new = |at: usize| at / dim % spot.capacity == spot.place;
            let all = 0..expected[layer][kind].len();
            let new = |cache: &[Cache]| -> Vec<f64> {
                let numbers = &cache[layer][kind];
                all.clone()
                    .filter(|&at| is_new(at))
                    .map(|at| numbers[at])
                    .collect()
            };
            let (mine, wanted) = (new(written), new(expected));
            let (off, near) = (error(&mine, &wanted), if layer == 0 { 2e-3 } else { 2e-2 });
            if !(off < near) {
                return Err(format!("new entries of layer {layer} are off by {off:.1e}"));
            }
            let kept = |at: usize| written[layer][kind][at] == before[layer][kind][at];
            if !all.clone().all(|at| is_new(at) || kept(at)) {
                return Err(format!("other entries of layer {layer} have changed"));
            }
        }
    }
    Ok(())
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Whether tokens that go through together, of which one is absent, have the bits that `alone` gives each, and leave
/// the same in their caches.
fn check_together(
    alone: &mut Decoder<'_>,
    together: &mut Decoder<'_>,
    tokens: usize,
    seed: u64,
) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let contexts = [0, 300, 7, 41, 130, WINDOW, 64, 3];
    let ids: Vec<Option<Token>> = (0..tokens)
        .map(|t| {
            let id = rng.bits() as usize % alone.model.sizes.vocab;
            let position = (contexts[t % 8] + t / 8 * 5) % CAPACITY;
            (t != 2).then_some(Token { id, position })
        })
        .collect();
    let caches: Vec<Vec<Buffers>> = (0..tokens).map(|_| alone.caches(&mut rng)).collect();
    let mut written = caches.clone();
    let logits = together.launch(&ids, &mut written)?;
    for (t, &id) in ids.iter().enumerate() {
        let mut own = [caches[t].clone()];
        if id.is_some() {
            let wanted = alone.launch(&[id], &mut own)?;
            if !same(&wanted[0], &logits[t]) {
                return Err(format!("token {t} of {tokens} has other logits than alone"));
            }
        }
        let bits = |buffers: &[Buffers]| -> Vec<Vec<half::bf16>> {
            buffers.iter().flatten().map(Memory::halves).collect()
        };
        if bits(&own[0]) != bits(&written[t]) {
            return Err(format!(
                "token {t} of {tokens} leaves other keys or values than alone"
            ));
        }
    }
    Ok(())
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
fn a_model_in_bfloat16_equals_float64_and_eight_tokens_each_alone() {
    check("qwen3", qwen3(Packing::Dense), &[8]);
}

#[test]
fn many_tokens_have_the_bits_of_each_alone() {
    check("qwen3_many", qwen3(Packing::Dense), &[16]);
}

#[test]
fn a_model_in_four_bits_equals_float64_and_eight_tokens_each_alone() {
    check("qwen3_four_bits", qwen3(FOUR_BITS), &[8]);
}

#[test]
fn a_model_in_twelve_bits_equals_float64_and_many_tokens_each_alone() {
    check("qwen3_twelve_bits", qwen3(Packing::Bf12), &[16]);
}

#[test]
fn windows_norms_behind_and_caps_equal_float64_and_eight_tokens_each_alone() {
    check("gemma", gemma(), &[8]);
}

#[test]
fn biases_equal_float64() {
    check("qwen2", qwen2(), &[]);
}

/// What a check says of the kernel with the one place of `right` made `wrong`.
fn mutated(name: &str, sizes: Sizes, right: &str, wrong: &str) -> Option<String> {
    let compiler = compiler()?;
    let model = random(sizes, 5);
    let mut decoder = Decoder::new(&compiler, name, &model, 1, CAPACITY, |source| {
        assert_eq!(source.matches(right).count(), 1, "`{right}` is there once");
        source.replacen(right, wrong, 1)
    });
    Some(check_alone(&mut decoder, 7).expect_err(name))
}

#[test]
fn a_missing_barrier_is_found() {
    let wait = "if (threadIdx.x == 0) {\n            add_release(arrived);\n            while (read_acquire(arrived) < goal) {";
    let none =
        "if (threadIdx.x == 0) {\n            add_release(arrived);\n            while (false) {";
    mutated("no_barrier", qwen3(Packing::Dense), wait, none);
}

#[test]
fn a_missing_wait_for_tiles_is_found() {
    let right = "copies_wait<RING_STAGES - 1>();";
    mutated(
        "no_wait",
        qwen3(Packing::Dense),
        right,
        "copies_wait<RING_STAGES>();",
    );
}

#[test]
fn a_window_wrong_by_one_is_found() {
    let right = "Context{ring_place, ring_held,";
    mutated(
        "window",
        gemma(),
        right,
        "Context{ring_place, larger(1, ring_held - 1),",
    );
}

#[test]
fn a_missing_scale_is_found() {
    mutated(
        "scale",
        qwen3(Packing::Dense),
        "* scale * bf16_low(weight[i])",
        "* bf16_low(weight[i])",
    );
}
