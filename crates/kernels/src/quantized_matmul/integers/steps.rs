//! Eight groups of some rows of weights by as many elements of some rows of `x`: integers, then floats.

use std::arch::x86_64::*;
use std::ops::Range;

use super::arrange::SPAN;
use super::codes::Codes;
use super::rows::Packed;
use super::scales::ScaleFormat;
use crate::isa::{Avx2, Simd};

/// Where some rows of weights, and `M` of `x`, begin.
pub(super) struct Pointers<const M: usize> {
    pub(super) codes: *const u8,
    /// What is to be asked for.
    pub(super) far: *const u8,
    /// And how far apart rows of `x` are.
    pub(super) x: (*const i16, usize),
    pub(super) units: [*const f32; M],
}

impl<const M: usize> Pointers<M> {
    /// The integers of row `i` of `x` from `at` on. Reckoned, and not looked up: eight pointers are more than there are
    /// registers for.
    #[inline(always)]
    pub(super) fn x(&self, i: usize, at: usize) -> *const i16 {
        self.x.0.wrapping_add(i * self.x.1 + at)
    }
}

impl<C: Codes, S: ScaleFormat, const SPANS: usize, const PAIRS: bool>
    Packed<'_, C, S, SPANS, PAIRS>
{
    /// Adds the products of eight groups from `block` on, whose lanes have units and scales of their own.
    ///
    /// # Safety
    /// As [`Stream::sums`], within which this is a part.
    #[inline(always)]
    pub(super) unsafe fn add_steps<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        block: usize,
        scales: &[__m256; R],
        acc: &mut [[__m256; M]; R],
    ) {
        let first = block * self.steps / 8;
        let last = self.all_steps.min(first + self.steps);
        for (step, order) in (first..last).zip(&self.job.order) {
            // SAFETY: by this function's own contract.
            unsafe {
                let order = Avx2::load_words(order.as_ptr().cast());
                for r in 0..R {
                    let words = self.load::<R, M>(at, r, step);
                    let scale = _mm256_permutevar8x32_ps(scales[r], order);
                    for i in 0..M {
                        let sum = C::products::<M>(self.windows, words, at.x(i, step * C::STEP));
                        let unit = Avx2::mul(Avx2::load_f32(at.units[i].add(step * 8)), scale);
                        acc[r][i] = Avx2::mul_add(_mm256_cvtepi32_ps(sum), unit, acc[r][i]);
                    }
                }
            }
        }
    }

    /// Adds the products of up to eight groups, of which each span has one unit and one scale.
    ///
    /// # Safety
    /// As [`Stream::sums`], within which this is a part.
    #[inline(always)]
    pub(super) unsafe fn add_spans<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        groups: Range<usize>,
        scales: &[__m256; R],
        acc: &mut [[__m256; M]; R],
    ) {
        for span in 0..SPANS {
            // SAFETY: by this function's own contract. Units lie as the factors do.
            unsafe {
                // From memory a float comes into all lanes as it is loaded, from a register by a permutation.
                let mut factors = [[Avx2::zero(); M]; R];
                for i in 0..M {
                    let units = at.units[i].add(groups.start * SPANS + span * 8);
                    for r in 0..R {
                        factors[r][i] = Avx2::mul(scales[r], Avx2::load_f32(units));
                    }
                }
                for group in groups.clone() {
                    let first = (group * SPANS + span) * (SPAN / C::STEP);
                    for r in 0..R {
                        let factor = |i: usize| {
                            let factor = (&raw const factors[r][i]).cast::<f32>();
                            Avx2::splat(*factor.add(group - groups.start))
                        };
                        if C::STEP == SPAN {
                            // One sum at a time: with all of them before the first is added, registers run out.
                            let words = self.load::<R, M>(at, r, first);
                            for i in 0..M {
                                let sum =
                                    C::products::<M>(self.windows, words, at.x(i, first * C::STEP));
                                let sum = _mm256_cvtepi32_ps(sum);
                                acc[r][i] = Avx2::mul_add(sum, factor(i), acc[r][i]);
                            }
                            continue;
                        }
                        let mut sums = [_mm256_setzero_si256(); M];
                        for step in first..first + SPAN / C::STEP {
                            let words = self.load::<R, M>(at, r, step);
                            for i in 0..M {
                                let products =
                                    C::products::<M>(self.windows, words, at.x(i, step * C::STEP));
                                sums[i] = _mm256_add_epi32(sums[i], products);
                            }
                        }
                        for i in 0..M {
                            let sum = _mm256_cvtepi32_ps(sums[i]);
                            acc[r][i] = Avx2::mul_add(sum, factor(i), acc[r][i]);
                        }
                    }
                }
            }
        }
    }

    /// The codes of a step of row `r`; asks for a part of what is far.
    ///
    /// # Safety
    /// As [`Stream::sums`], within which this is a part.
    #[inline(always)]
    pub(super) unsafe fn load<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        r: usize,
        step: usize,
    ) -> __m256i {
        let byte = step * C::BYTES;
        // SAFETY: by this function's own contract; any address may be asked for.
        unsafe {
            // The rows lie end to end: a line of what is `far` is as much as a step takes of two.
            if r.is_multiple_of(2) {
                Avx2::prefetch(at.far.wrapping_add(byte * R + r * C::BYTES));
            }
            C::load(at.codes.add(r * self.row_bytes + byte))
        }
    }
}
