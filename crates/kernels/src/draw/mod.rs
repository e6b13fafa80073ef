//! A token at random: from logits, through the filters, to an index.
//!
//! Every filter keeps the most probable tokens, so nothing needs an order of the whole vocabulary.
//! The largest `k` are found through the maxima of small blocks: the `k`th largest of these is a
//! bound that at least `k` elements reach, and few more do. Where only top-p says how many are kept,
//! `k` grows until their probabilities suffice.

pub(crate) mod graph;

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch, exp, with_float};
use crate::scratch::{Scratch, Shared};
use crate::vector::widen;
use crate::{Cpu, Result, View};

/// Elements of a block, whose maximum or sum is one number.
const BLOCK: usize = 64;

/// Blocks that a thread takes at least.
const GRAIN: usize = 128;

/// Candidates that top-p begins with.
const FIRST_CANDIDATES: usize = 256;

/// Which tokens may be drawn, and how flat the odds between them are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters {
    /// What logits are divided by; larger than 0.
    pub temperature: f32,
    /// As many of the most probable.
    pub top_k: Option<usize>,
    /// The fewest of the most probable that together have this probability, before the temperature.
    pub top_p: Option<f32>,
    /// Those at least so many times as probable as the most probable, before the temperature.
    pub min_p: Option<f32>,
}

/// Draws the index of one of `logits`, a matrix of one row. `uniform` is from 0 to 1: it decides. `None`
/// where one of them is not a number, or the largest is not finite: then they are no odds.
///
/// # Errors
/// When `logits` is empty or has several rows.
pub fn draw(cpu: &Cpu, logits: View<'_>, filters: &Filters, uniform: f32) -> Result<Option<usize>> {
    let shape = logits.layout().shape();
    ensure!(
        "draw",
        shape[..2] == [1, 1] && shape[2] > 0,
        "{shape:?} is not a row of logits"
    );
    let row = Row::new(cpu, &logits);
    if !row.max.is_finite() {
        return Ok(None);
    }
    let least = filters
        .min_p
        .map_or(f32::NEG_INFINITY, |p| row.max + p.ln());
    if filters.top_k.is_none() && filters.top_p.is_none() {
        let index = row.draw_from_all(cpu, filters.temperature, least, uniform);
        return Ok(Some(index));
    }
    let mut candidates = row.candidates(cpu, filters.top_k, filters.top_p);
    let kept = candidates.partition_point(|&index| row.values()[index] >= least);
    candidates.truncate(kept.max(1));
    let weight =
        |&index: &usize| f64::from((row.values()[index] - row.max) / filters.temperature).exp();
    let weights: Vec<f64> = candidates.iter().map(weight).collect();
    Ok(Some(candidates[pick(&weights, f64::from(uniform))]))
}

/// The place in `weights` where their running sum passes `uniform` times all of it.
fn pick(weights: &[f64], uniform: f64) -> usize {
    let mut left = uniform * weights.iter().sum::<f64>();
    for (i, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return i;
        }
    }
    // Rounding, or a uniform number of 1: the last that can be drawn at all.
    weights
        .iter()
        .rposition(|&weight| weight > 0.0)
        .unwrap_or(0)
}

/// Logits as float32, with the maxima of their blocks.
struct Row {
    values: Scratch<f32>,
    maxima: Scratch<f32>,
    /// Not a number if one of them is none.
    max: f32,
}

impl Row {
    fn new(cpu: &Cpu, logits: &View<'_>) -> Self {
        let len = logits.layout().cols;
        let blocks = len.div_ceil(BLOCK);
        let mut values = Scratch::<f32>::take(len);
        let mut maxima = Scratch::<f32>::take(blocks);
        let to = (
            Shared::new(values.as_mut_ptr()),
            Shared::new(maxima.as_mut_ptr()),
        );
        cpu.pool().run_ranges(blocks, GRAIN, |blocks| {
            let kernel = Load { logits, to, blocks };
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; there is room for every block, and these are this thread's.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
        let max = match maxima.as_slice().iter().any(|max| max.is_nan()) {
            true => f32::NAN,
            false => largest(maxima.as_slice()),
        };
        Self {
            values,
            maxima,
            max,
        }
    }

    fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// Indices that top-k and top-p leave, the most probable first.
    fn candidates(&self, cpu: &Cpu, top_k: Option<usize>, top_p: Option<f32>) -> Vec<usize> {
        let all = self.values().len();
        let limit = top_k.unwrap_or(all).clamp(1, all);
        let Some(top_p) = top_p else {
            return self.largest(limit);
        };
        let total: f64 = self.block_sums(cpu, 1.0, f32::NEG_INFINITY).iter().sum();
        let mut count = limit.min(FIRST_CANDIDATES);
        loop {
            let mut found = self.largest(count);
            let mut before = 0.0;
            let enough = found.iter().position(|&index| {
                let reached = before >= f64::from(top_p) * total;
                before += f64::from(self.values()[index] - self.max).exp();
                reached
            });
            if let Some(enough) = enough {
                found.truncate(enough.max(1));
                return found;
            }
            if count == limit {
                return found;
            }
            count = limit.min(count * 8);
        }
    }

    /// Indices of the `count` largest, in descending order; of equal ones the first come first.
    fn largest(&self, count: usize) -> Vec<usize> {
        let values = self.values();
        let mut maxima = self.maxima.as_slice().to_vec();
        let descending = |a: &f32, b: &f32| b.total_cmp(a);
        let bound = match maxima.len() > count {
            true => *maxima.select_nth_unstable_by(count - 1, descending).1,
            false => f32::NEG_INFINITY,
        };
        let mut found = Vec::new();
        for (block, &max) in self.maxima.as_slice().iter().enumerate() {
            if max >= bound {
                let range = block_range(block, values.len());
                found.extend(range.filter(|&index| values[index] >= bound));
            }
        }
        found.sort_unstable_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        found.truncate(count);
        found
    }

    /// Draws from all that are not below `least`.
    fn draw_from_all(&self, cpu: &Cpu, temperature: f32, least: f32, uniform: f32) -> usize {
        let sums = self.block_sums(cpu, temperature, least);
        let total: f64 = sums.iter().sum();
        let uniform = f64::from(uniform);
        let block = pick(&sums, uniform);
        let before: f64 = sums[..block].iter().sum();
        let range = block_range(block, self.values().len());
        let weights: Vec<f64> = self.values()[range.clone()]
            .iter()
            .map(|&x| match x >= least {
                true => f64::from((x - self.max) / temperature).exp(),
                false => 0.0,
            })
            .collect();
        let within = (uniform * total - before) / sums[block];
        range.start + pick(&weights, within.clamp(0.0, 1.0))
    }

    /// For each block the sum of `exp((x - max) / temperature)` over what is not below `least`.
    fn block_sums(&self, cpu: &Cpu, temperature: f32, least: f32) -> Vec<f64> {
        let mut sums = vec![0.0; self.maxima.as_slice().len()];
        let to = Shared::new(sums.as_mut_ptr());
        cpu.pool().run_ranges(sums.len(), GRAIN, |blocks| {
            let kernel = Sums {
                row: self,
                factor: 1.0 / temperature,
                least,
                to,
                blocks,
            };
            // SAFETY: as in `new`.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
        sums
    }
}

fn block_range(block: usize, len: usize) -> Range<usize> {
    block * BLOCK..len.min((block + 1) * BLOCK)
}

fn largest(x: &[f32]) -> f32 {
    x.iter()
        .fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
}

/// Widens blocks of logits and finds their maxima. That of a block with what is not a number is none.
struct Load<'a> {
    logits: &'a View<'a>,
    to: (Shared<f32>, Shared<f32>),
    blocks: Range<usize>,
}

impl Kernel for Load<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for block in self.blocks {
            let range = block_range(block, self.logits.layout().cols);
            // SAFETY: run by `dispatch`; the range is within the row, and the block this thread's.
            unsafe {
                let to = self.to.0.get().add(range.start);
                with_float!(self.logits.layout().dtype, T => {
                    let from = self.logits.row(0, 0).cast::<T>().add(range.start);
                    widen::<S, T>(from, to, range.len());
                });
                let values = std::slice::from_raw_parts(to, range.len());
                let unordered = values.iter().fold(false, |any, x| any | x.is_nan());
                let max = if unordered { f32::NAN } else { largest(values) };
                *self.to.1.get().add(block) = max;
            }
        }
    }
}

struct Sums<'a> {
    row: &'a Row,
    factor: f32,
    least: f32,
    to: Shared<f64>,
    blocks: Range<usize>,
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut weights = [0.0_f32; BLOCK];
        for block in self.blocks {
            let values = &self.row.values()[block_range(block, self.row.values().len())];
            // Beyond the last element, and for what is left out, a weight of zero.
            weights.fill(f32::NEG_INFINITY);
            for (weight, &x) in weights.iter_mut().zip(values) {
                if x >= self.least {
                    *weight = (x - self.row.max) * self.factor;
                }
            }
            // SAFETY: run by `dispatch`; a block is whole vectors, and its sum is this thread's.
            unsafe {
                let mut sum = S::zero();
                for i in (0..BLOCK).step_by(S::LANES) {
                    sum = S::add(sum, exp::<S>(S::load_f32(weights.as_ptr().add(i))));
                }
                *self.to.get().add(block) = f64::from(S::sum(sum));
            }
        }
    }
}
