//! The softmax of a row of scores that come a block at a time.

use std::ops::Range;

use super::MaskView;
use crate::isa::{Simd, exp, sigmoid};

/// Keys of a block: a multiple of any number of lanes.
pub(super) const BLOCK: usize = 64;

/// The block that begins with key `first`, of keys up to `end`. Blocks end at multiples of [`BLOCK`], and so does
/// what lies in one piece: the first may be shorter.
pub(super) fn block(first: usize, end: usize) -> Range<usize> {
    first..end.min((first / BLOCK + 1) * BLOCK)
}

/// What is known of a row so far.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// The largest score.
    pub(super) max: f32,
    /// The sum of `exp(score - max)`.
    pub(super) sum: f32,
}

impl State {
    pub(super) const EMPTY: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
    };

    /// Of one score that has no value.
    pub(super) const fn of(score: f32) -> Self {
        Self {
            max: score,
            sum: 1.0,
        }
    }

    /// Takes in a block of scores, which become `exp(score - max)`, and gives back the factor
    /// for everything that was weighed by the old maximum.
    ///
    /// # Safety
    /// [`Simd`]'s contract; `scores` leads to [`BLOCK`] floats.
    #[inline(always)]
    pub(super) unsafe fn take<S: Simd>(&mut self, scores: *mut f32) -> f32 {
        // SAFETY: by this function's own contract.
        unsafe {
            let mut largest = S::load_f32(scores);
            for i in (S::LANES..BLOCK).step_by(S::LANES) {
                largest = S::max(largest, S::load_f32(scores.add(i)));
            }
            let mut max = self.max.max(S::max_lane(largest));
            if max == f32::NEG_INFINITY {
                let mut all = S::zero();
                for i in (0..BLOCK).step_by(S::LANES) {
                    all = S::add(all, S::load_f32(scores.add(i)));
                }
                if !S::sum(all).is_nan() {
                    // Nothing is seen yet.
                    for i in (0..BLOCK).step_by(S::LANES) {
                        S::store_f32(scores.add(i), S::zero());
                    }
                    return 1.0;
                }
                // Scores that are no numbers have no largest. With any, they stay what they are.
                max = f32::MIN;
            }
            let mut sum = S::zero();
            for i in (0..BLOCK).step_by(S::LANES) {
                let e = exp::<S>(S::sub(S::load_f32(scores.add(i)), S::splat(max)));
                S::store_f32(scores.add(i), e);
                sum = S::add(sum, e);
            }
            // Most blocks have no larger score than those before.
            let factor = if self.max == max {
                1.0
            } else {
                (self.max - max).exp()
            };
            self.max = max;
            self.sum = self.sum * factor + S::sum(sum);
            factor
        }
    }
}

/// Squashes a block of scores to the range of `cap`: `cap · tanh(score / cap)`.
///
/// # Safety
/// [`Simd`]'s contract; `scores` leads to [`BLOCK`] floats.
#[inline(always)]
pub(super) unsafe fn squash<S: Simd>(scores: *mut f32, cap: f32) {
    // SAFETY: by this function's own contract.
    unsafe {
        for i in (0..BLOCK).step_by(S::LANES) {
            // tanh x is 2 sigmoid(2 x) - 1.
            let x = S::mul(S::load_f32(scores.add(i)), S::splat(2.0 / cap));
            let y = S::mul_add(sigmoid::<S>(x), S::splat(2.0 * cap), S::splat(-cap));
            S::store_f32(scores.add(i), y);
        }
    }
}

/// Makes negative infinity of the scores of keys `first..first + BLOCK` that query `i` does not
/// see, `seen` being its range.
///
/// # Safety
/// `scores` leads to [`BLOCK`] floats.
#[inline(always)]
pub(super) unsafe fn hide(
    scores: *mut f32,
    first: usize,
    seen: &Range<usize>,
    mask: &MaskView<'_>,
    i: usize,
) {
    // SAFETY: by this function's own contract.
    let scores = unsafe { std::slice::from_raw_parts_mut(scores, BLOCK) };
    let begin = seen.start.saturating_sub(first).min(BLOCK);
    let end = seen.end.saturating_sub(first).min(BLOCK).max(begin);
    scores[..begin].fill(f32::NEG_INFINITY);
    scores[end..].fill(f32::NEG_INFINITY);
    if mask.has_holes() {
        for (j, score) in scores.iter_mut().enumerate().take(end).skip(begin) {
            if mask.hides(i, first + j) {
                *score = f32::NEG_INFINITY;
            }
        }
    }
}
