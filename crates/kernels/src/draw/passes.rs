//! Passes over a whole row, which the threads share. What they sum is summed block by block, in one order whatever
//! the number of threads.

use std::ops::Range;

use super::row::{BLOCK, block_range, largest_or_nan};
use crate::View;
use crate::isa::{Kernel, Simd, exp, with_float};
use crate::scratch::Shared;
use crate::vector::widen;

/// Distances at which a row is cut in one pass.
pub(super) const CUTS: usize = 8;

/// Below this, logits less the largest count as this: their exponential is zero.
const LOWEST: f32 = -1e4;

/// Widens blocks of logits and finds their maxima.
pub(super) struct Load<'a> {
    pub(super) logits: &'a View<'a>,
    pub(super) to: (Shared<f32>, Shared<f32>),
    pub(super) blocks: Range<usize>,
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
                *self.to.1.get().add(block) = largest_or_nan(values);
            }
        }
    }
}

/// The exponentials of logits, with their sums, and the sums of what they weigh.
pub(super) struct Weigh<'a> {
    pub(super) values: &'a [f32],
    pub(super) max: f32,
    pub(super) factor: f32,
    pub(super) to: (Shared<f32>, Shared<f64>, Shared<f64>),
    pub(super) blocks: Range<usize>,
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut scaled = [0.0_f32; BLOCK];
        for block in self.blocks {
            let values = &self.values[block_range(block, self.values.len())];
            match <&[f32; BLOCK]>::try_from(values) {
                Ok(whole) => {
                    for (scaled, x) in scaled.iter_mut().zip(whole) {
                        *scaled = (x - self.max) * self.factor;
                    }
                }
                Err(_) => {
                    // Beyond the last element a weight of zero.
                    scaled.fill(LOWEST);
                    for (scaled, x) in scaled.iter_mut().zip(values) {
                        *scaled = (x - self.max) * self.factor;
                    }
                }
            }
            // SAFETY: run by `dispatch`; a block is whole vectors, which there is room for, and it is this thread's.
            unsafe {
                let (mut sum, mut moment) = (S::zero(), S::zero());
                for i in (0..BLOCK).step_by(S::LANES) {
                    let x = S::load_f32(scaled.as_ptr().add(i));
                    let weight = exp::<S>(x);
                    S::store_f32(self.to.0.get().add(block * BLOCK + i), weight);
                    sum = S::add(sum, weight);
                    moment = S::mul_add(weight, S::max(x, S::splat(LOWEST)), moment);
                }
                *self.to.1.get().add(block) = f64::from(S::sum(sum));
                *self.to.2.get().add(block) = f64::from(S::sum(moment));
            }
        }
    }
}

/// What a pass looks at: logits by their distance from a centre, and their weights.
#[derive(Clone, Copy)]
pub(super) struct Distances<'a> {
    pub(super) values: &'a [f32],
    /// As many as whole blocks have.
    pub(super) weights: &'a [f32],
    pub(super) center: f32,
}

impl Distances<'_> {
    /// That of a logit, as the passes compute it.
    pub(super) fn of(&self, index: usize) -> f32 {
        (self.values[index] - self.center).abs()
    }

    /// A block's distances into `to`; infinite beyond the last element.
    #[inline(always)]
    fn read(&self, block: usize, to: &mut [f32; BLOCK]) {
        let values = &self.values[block_range(block, self.values.len())];
        match <&[f32; BLOCK]>::try_from(values) {
            Ok(whole) => {
                for (to, x) in to.iter_mut().zip(whole) {
                    *to = (x - self.center).abs();
                }
            }
            Err(_) => {
                to.fill(f32::INFINITY);
                for (to, x) in to.iter_mut().zip(values) {
                    *to = (x - self.center).abs();
                }
            }
        }
    }
}

/// For each block and each of [`CUTS`], the weight of what is nearer than that.
pub(super) struct Cut<'a> {
    pub(super) of: Distances<'a>,
    pub(super) cuts: [f32; CUTS],
    pub(super) to: Shared<[f32; CUTS]>,
    pub(super) blocks: Range<usize>,
}

impl Kernel for Cut<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut distances = [0.0_f32; BLOCK];
        for block in self.blocks {
            self.of.read(block, &mut distances);
            // SAFETY: run by `dispatch`; a block is whole vectors, of the weights too, and its sums are this thread's.
            unsafe {
                let mut sums = [S::zero(); CUTS];
                for i in (0..BLOCK).step_by(S::LANES) {
                    let distance = S::load_f32(distances.as_ptr().add(i));
                    let weight = S::load_f32(self.of.weights.as_ptr().add(block * BLOCK + i));
                    for (sum, cut) in sums.iter_mut().zip(self.cuts) {
                        *sum = S::add(*sum, S::where_less(distance, S::splat(cut), weight));
                    }
                }
                *self.to.get().add(block) = sums.map(|sum| S::sum(sum));
            }
        }
    }
}

/// How many of each block are in a range of distances.
pub(super) struct Count<'a> {
    pub(super) of: Distances<'a>,
    pub(super) range: Range<f32>,
    pub(super) to: Shared<u32>,
    pub(super) blocks: Range<usize>,
}

impl Kernel for Count<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut distances = [0.0_f32; BLOCK];
        for block in self.blocks {
            self.of.read(block, &mut distances);
            // SAFETY: run by `dispatch`; a block is whole vectors, and the count is this thread's.
            unsafe {
                let one = S::splat(1.0);
                let (from, to) = (S::splat(self.range.start), S::splat(self.range.end));
                let mut count = S::zero();
                for i in (0..BLOCK).step_by(S::LANES) {
                    let distance = S::load_f32(distances.as_ptr().add(i));
                    let nearer = S::where_less(distance, from, one);
                    count = S::add(count, S::sub(S::where_less(distance, to, one), nearer));
                }
                *self.to.get().add(block) = S::sum(count) as u32;
            }
        }
    }
}

/// Leaves out what is as far as a distance, or farther, and what is below a bound; finds the maxima again.
pub(super) struct Keep {
    /// The row.
    pub(super) values: Shared<f32>,
    pub(super) len: usize,
    pub(super) center: f32,
    pub(super) within: f32,
    pub(super) least: f32,
    pub(super) maxima: Shared<f32>,
    pub(super) blocks: Range<usize>,
}

impl Kernel for Keep {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for block in self.blocks {
            let range = block_range(block, self.len);
            // SAFETY: the range is within the row, and the block is this thread's.
            unsafe {
                let start = self.values.get().add(range.start);
                let values = std::slice::from_raw_parts_mut(start, range.len());
                for x in values.iter_mut() {
                    let stays = (*x - self.center).abs() < self.within && *x >= self.least;
                    *x = if stays { *x } else { f32::NEG_INFINITY };
                }
                *self.maxima.get().add(block) = largest_or_nan(values);
            }
        }
    }
}
