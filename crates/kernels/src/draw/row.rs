//! A row of logits that is being worked on: float32, with the maxima of its blocks.

use std::ops::Range;

use super::passes::{Load, Weigh};
use crate::error::ensure;
use crate::isa::{Float, dispatch, with_float};
use crate::scratch::{Scratch, Shared};
use crate::{Cpu, Result, View};

/// Elements of a block, whose maximum or sum is one number.
pub(super) const BLOCK: usize = 64;

/// Blocks that a thread takes at least.
pub(super) const GRAIN: usize = 128;

/// Tokens of a word of a mask.
const WORD: usize = 32;

/// A row of logits, as float32, which stages change before a token is drawn from it. What is left out is at
/// negative infinity.
pub struct Row<'a> {
    pub(super) cpu: &'a Cpu,
    /// As the model gave them.
    logits: View<'a>,
    pub(super) values: Scratch<f32>,
    pub(super) maxima: Scratch<f32>,
    /// Not a number if one of them is none.
    max: f32,
}

/// What tokens weigh: the exponentials of their logits, less the largest, over a temperature.
pub(super) struct Weights {
    /// Of each token.
    pub(super) each: Scratch<f32>,
    /// The sum of all.
    pub(super) total: f64,
    /// The mean of the logits, less the largest, by these weights.
    pub(super) mean: f64,
}

/// Some tokens' logits, to be written.
pub struct Changes<'a> {
    values: &'a mut [f32],
    /// Blocks whose maxima are to be found again.
    touched: Vec<bool>,
}

impl Changes<'_> {
    /// Makes a token's logit another one; a token outside the row is passed over.
    pub fn change(&mut self, index: usize, to: impl FnOnce(f32) -> f32) {
        if let Some(x) = self.values.get_mut(index) {
            *x = to(*x);
            self.touched[index / BLOCK] = true;
        }
    }
}

impl<'a> Row<'a> {
    /// Reads `logits`, a matrix of one row.
    ///
    /// # Errors
    /// When `logits` is empty or has several rows.
    pub fn read(cpu: &'a Cpu, logits: View<'a>) -> Result<Self> {
        let shape = logits.layout().shape();
        ensure!(
            "draw",
            shape[..2] == [1, 1] && shape[2] > 0,
            "{shape:?} is not a row of logits"
        );
        let len = shape[2];
        let blocks = len.div_ceil(BLOCK);
        let mut row = Self {
            cpu,
            logits,
            values: Scratch::take(len),
            maxima: Scratch::take(blocks),
            max: f32::NAN,
        };
        let to = (
            Shared::new(row.values.as_mut_ptr()),
            Shared::new(row.maxima.as_mut_ptr()),
        );
        cpu.pool().run_ranges(blocks, GRAIN, |blocks| {
            let logits = &logits;
            let kernel = Load { logits, to, blocks };
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; there is room for every block, and these are this thread's.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
        row.find_max();
        Ok(row)
    }

    /// The logits as they are now, by token.
    pub fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// A logit as the model gave it.
    ///
    /// # Panics
    /// When the row has no such token.
    pub fn given(&self, index: usize) -> f32 {
        assert!(index < self.values().len(), "a token of the row");
        with_float!(self.logits.layout().dtype, T => {
            // SAFETY: the index is within the row, whose elements may lie at any address.
            let x = unsafe { self.logits.row(0, 0).cast::<T>().add(index).read_unaligned() };
            x.to_f32()
        })
    }

    /// The largest; not a number where one of them is none, and infinite where nothing follows from the row.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// Lets `change` write the whole row. What it leaves is looked at again.
    ///
    /// # Errors
    /// What `change` gives.
    pub fn rewrite<E>(
        &mut self,
        change: impl FnOnce(&mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let changed = change(self.values.as_mut_slice());
        for block in 0..self.maxima.as_slice().len() {
            self.find_max_of(block);
        }
        self.find_max();
        changed
    }

    /// Makes the logits of some tokens others; one outside the row is passed over.
    pub fn set(&mut self, changes: impl IntoIterator<Item = (usize, f32)>) {
        self.change(|logits| {
            for (index, value) in changes {
                logits.change(index, |_| value);
            }
        });
    }

    /// Lets `change` write some tokens' logits.
    pub fn change(&mut self, change: impl FnOnce(&mut Changes<'_>)) {
        let blocks = self.maxima.as_slice().len();
        let mut changes = Changes {
            values: self.values.as_mut_slice(),
            touched: vec![false; blocks],
        };
        change(&mut changes);
        let touched = changes.touched;
        for block in (0..blocks).filter(|&block| touched[block]) {
            self.find_max_of(block);
        }
        self.find_max();
    }

    /// Leaves out every token whose bit is not set: token `i` has bit `i % 32` of word `i / 32`, and where there is no
    /// word the bit is not set.
    pub fn allow(&mut self, words: &[u32]) {
        let values = self.values.as_mut_slice();
        for (i, values) in values.chunks_mut(WORD).enumerate() {
            match words.get(i).copied().unwrap_or(0) {
                u32::MAX => {}
                0 => values.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, x) in values.iter_mut().enumerate() {
                        *x = if word >> bit & 1 == 1 {
                            *x
                        } else {
                            f32::NEG_INFINITY
                        };
                    }
                }
            }
        }
        let per_block = BLOCK / WORD;
        for block in 0..self.maxima.as_slice().len() {
            let words = words.get(block * per_block..(block + 1) * per_block);
            if words.is_none_or(|words| words.iter().any(|&word| word != u32::MAX)) {
                self.find_max_of(block);
            }
        }
        self.find_max();
    }

    /// The most probable token, the first of several. `None` where the largest is not finite.
    pub fn argmax(&self) -> Option<usize> {
        if !self.max.is_finite() {
            return None;
        }
        let is_max = |&x: &f32| x == self.max;
        let block = self.maxima.as_slice().iter().position(is_max)?;
        let range = block_range(block, self.values().len());
        let found = self.values()[range.clone()].iter().position(is_max)?;
        Some(range.start + found)
    }

    /// Indices of the `count` largest, in descending order; of equal ones the first come first. The row is of
    /// numbers.
    pub fn largest(&self, count: usize) -> Vec<usize> {
        if count == 0 {
            return Vec::new();
        }
        let values = self.values();
        let mut maxima = self.maxima.as_slice().to_vec();
        let descending = |a: &f32, b: &f32| b.total_cmp(a);
        let bound = match maxima.len() > count {
            true => *maxima.select_nth_unstable_by(count - 1, descending).1,
            false => f32::NEG_INFINITY,
        };
        let mut found = self.at_least(bound);
        let order = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
        if found.len() > count {
            found.select_nth_unstable_by(count - 1, order);
            found.truncate(count);
        }
        found.sort_unstable_by(order);
        found
    }

    /// Indices of all that are not below `bound`, in ascending order.
    pub(super) fn at_least(&self, bound: f32) -> Vec<usize> {
        self.up_to(usize::MAX, bound)
    }

    /// The same; where there are more than `most`, some of them, and more than `most`.
    pub(super) fn up_to(&self, most: usize, bound: f32) -> Vec<usize> {
        let values = self.values();
        let mut found = Vec::new();
        for (block, &max) in self.maxima.as_slice().iter().enumerate() {
            if found.len() > most {
                break;
            }
            if max >= bound {
                let range = block_range(block, values.len());
                found.extend(range.filter(|&index| values[index] >= bound));
            }
        }
        found
    }

    /// The logarithm of the sum of the exponentials of all logits: what a logit less this is, is the logarithm of the
    /// token's probability.
    pub fn log_sum(&self) -> f64 {
        f64::from(self.max) + self.weights(1.0).total.ln()
    }

    /// What each token weighs. The row is of numbers.
    pub(super) fn weights(&self, temperature: f32) -> Weights {
        let blocks = self.maxima.as_slice().len();
        let mut each = Scratch::take(blocks * BLOCK);
        let mut sums = vec![0.0; blocks];
        let mut moments = vec![0.0; blocks];
        let to = (
            Shared::new(each.as_mut_ptr()),
            Shared::new(sums.as_mut_ptr()),
            Shared::new(moments.as_mut_ptr()),
        );
        self.cpu.pool().run_ranges(blocks, GRAIN, |blocks| {
            let kernel = Weigh {
                values: self.values(),
                max: self.max,
                factor: 1.0 / temperature,
                to,
                blocks,
            };
            // SAFETY: as in `read`.
            unsafe { dispatch(self.cpu.isa(), kernel) }
        });
        let total: f64 = sums.iter().sum();
        let mean = moments.iter().sum::<f64>() / total;
        Weights { each, total, mean }
    }

    pub(super) fn find_max_of(&mut self, block: usize) {
        let range = block_range(block, self.values().len());
        self.maxima.as_mut_slice()[block] = largest_or_nan(&self.values()[range]);
    }

    pub(super) fn find_max(&mut self) {
        self.max = largest_or_nan(self.maxima.as_slice());
    }
}

pub(super) fn block_range(block: usize, len: usize) -> Range<usize> {
    block * BLOCK..len.min((block + 1) * BLOCK)
}

/// The largest of some; not a number if one of them is none.
#[inline(always)]
pub(super) fn largest_or_nan(x: &[f32]) -> f32 {
    // Several running maxima, so that one does not wait for the other.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut unordered = [0_u32; 16];
    let mut chunks = x.chunks_exact(lanes.len());
    for chunk in &mut chunks {
        for ((lane, none), &x) in lanes.iter_mut().zip(&mut unordered).zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
            *none |= u32::from(x.is_nan());
        }
    }
    let rest = chunks.remainder();
    if unordered.iter().any(|&none| none != 0) || rest.iter().any(|x| x.is_nan()) {
        return f32::NAN;
    }
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
    }
    rest.iter().fold(lanes[0], |max, &x| larger(max, x))
}
