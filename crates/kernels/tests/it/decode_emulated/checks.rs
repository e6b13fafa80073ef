//! What a kernel's logits and caches are compared with.

use half::bf16;

use super::WINDOW;
use super::decoder::{Buffers, Decoder, Token};
use super::model::Memory;
use super::reference::{Cache, Reference, Rounding, Spot};
use crate::common::Rng;

/// Places of buffers without a window; contexts are below.
pub(super) const CAPACITY: usize = 320;

/// An empty cache, one with less than a warp reads at a time or a window about to be full, and one that blocks
/// share.
const CONTEXTS: [usize; 4] = [0, WINDOW - 1, 150, 301];

/// How far `mine` is from `exact`, as a part of its length; infinite where there is no number.
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
pub(super) fn check_alone(decoder: &mut Decoder<'_>, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let model = decoder.model;
    let (mut mine, mut coarse) = (0.0, 0.0);
    for position in CONTEXTS {
        let caches = decoder.caches(&mut rng);
        let id = rng.bits() as usize % model.sizes.vocab;
        let token = [Some(Token { id, position })];
        let spots = decoder.spots(position);
        let mut written = [caches.clone()];
        let launched = decoder.launch(&token, &mut written)?;
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
        let logits: Vec<f64> = launched[0].iter().map(|&x| f64::from(x)).collect();
        let off = error(&logits, &exact);
        let near = 2e-2_f64.max(2.0 * all).max(2.0 * inputs);
        if off >= near {
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
        if !same(&repeated[0], &launched[0]) {
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
    spots: &[Spot],
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
            if off >= near {
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
pub(super) fn check_together(
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
        let bits = |buffers: &[Buffers]| -> Vec<Vec<bf16>> {
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
