//! Two rows of weights in one vector of AVX-512, the second in its upper half: each has the sums that it has alone in one
//! of AVX2, to the bit, and what is done to codes and sums is done once for both.

use std::arch::x86_64::*;

use super::arrange::SPAN;
use super::codes::Codes;
use super::rows::Packed;
use super::scales::{ScaleFormat, load_scales};
use super::steps::Pointers;
use crate::isa::{Avx2, Avx512, Simd};

/// What groups have, of some rows of weights and `M` of `x`.
pub(super) struct OfGroups<const M: usize> {
    pub(super) scales: *const u8,
    pub(super) biases: *const u8,
    pub(super) sums: [*const f32; M],
    pub(super) rests: [*const f32; M],
    /// How far what is to be asked for lies behind scales.
    pub(super) ahead: usize,
}

/// Both halves of a vector.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
unsafe fn both(first: __m256, second: __m256) -> __m512 {
    // SAFETY: by this function's own contract.
    unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(first), second) }
}

/// Eight floats, twice.
///
/// # Safety
/// The machine has AVX-512; they can be read.
#[inline(always)]
unsafe fn twice(eight: *const f32) -> __m512 {
    // SAFETY: by this function's own contract.
    unsafe { _mm512_broadcast_f32x8(_mm256_loadu_ps(eight)) }
}

impl<C: Codes, S: ScaleFormat, const SPANS: usize, const PAIRS: bool>
    Packed<'_, C, S, SPANS, PAIRS>
{
    /// The sums of an even number of rows of weights.
    ///
    /// # Safety
    /// As [`Stream::sums`](crate::stream::Stream::sums), within which this is a part; the machine has AVX-512 with VNNI.
    #[inline(always)]
    pub(super) unsafe fn sums_of_pairs<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        of: &OfGroups<M>,
        sums: &mut [[__m256; M]; R],
    ) {
        let groups = self.groups;
        // SAFETY: by this function's own contract.
        unsafe {
            let mut acc = [[Avx512::zero(); M]; R];
            for block in (0..groups).step_by(8) {
                let count = (groups - block).min(8);
                // The rows' lie end to end, as those of their codes do.
                let far = of.ahead + S::SIZE * block * R;
                let place = S::SIZE * block;
                let scales = load_scales::<S, R>(of.scales.add(place), S::SIZE * groups, count);
                Avx2::prefetch(of.scales.wrapping_add(far));
                if S::AFFINE {
                    let biases = load_scales::<S, R>(of.biases.add(place), S::SIZE * groups, count);
                    Avx2::prefetch(of.biases.wrapping_add(far));
                    for i in 0..M {
                        let sums = twice(of.sums[i].add(block));
                        let rests = twice(of.rests[i].add(block));
                        for r in (0..R).step_by(2) {
                            let biases = both(biases[r], biases[r + 1]);
                            let scales = both(scales[r], scales[r + 1]);
                            acc[r / 2][i] = Avx512::mul_add(biases, sums, acc[r / 2][i]);
                            acc[r / 2][i] = Avx512::mul_add(scales, rests, acc[r / 2][i]);
                        }
                    }
                }
                if SPANS > 0 {
                    self.add_spans_of_pairs(at, block, count, &scales, &mut acc);
                } else {
                    self.add_steps_of_pairs(at, block, &scales, &mut acc);
                }
            }
            for r in 0..R {
                for i in 0..M {
                    let pair = acc[r / 2][i];
                    sums[r][i] = match r % 2 {
                        0 => _mm512_castps512_ps256(pair),
                        _ => _mm512_extractf32x8_ps::<1>(pair),
                    };
                }
            }
        }
    }

    /// As [`Packed::add_steps`], of pairs of rows: sums `[R / 2, M]`.
    ///
    /// # Safety
    /// As [`Packed::sums_of_pairs`].
    #[inline(always)]
    unsafe fn add_steps_of_pairs<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        block: usize,
        scales: &[__m256; R],
        acc: &mut [[__m512; M]; R],
    ) {
        let first = block * self.steps / 8;
        let last = self.all_steps.min(first + self.steps);
        for (step, order) in (first..last).zip(&self.job.order) {
            // SAFETY: by this function's own contract.
            unsafe {
                let order = Avx2::load_words(order.as_ptr().cast());
                for r in (0..R).step_by(2) {
                    let words = self.load_pair::<R, M>(at, r, step);
                    let scale = both(
                        _mm256_permutevar8x32_ps(scales[r], order),
                        _mm256_permutevar8x32_ps(scales[r + 1], order),
                    );
                    for i in 0..M {
                        let x = at.x(i, step * C::STEP);
                        let sum = C::products_of_two::<M>(self.windows, words, x);
                        let unit = Avx512::mul(twice(at.units[i].add(step * 8)), scale);
                        let sum = _mm512_cvtepi32_ps(sum);
                        acc[r / 2][i] = Avx512::mul_add(sum, unit, acc[r / 2][i]);
                    }
                }
            }
        }
    }

    /// As [`Packed::add_spans`], of pairs of rows: sums `[R / 2, M]`.
    ///
    /// # Safety
    /// As [`Packed::sums_of_pairs`].
    #[inline(always)]
    unsafe fn add_spans_of_pairs<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        block: usize,
        count: usize,
        scales: &[__m256; R],
        acc: &mut [[__m512; M]; R],
    ) {
        const UPPER: __mmask16 = 0xff00;
        // From memory a float comes into all lanes as it is loaded, from a register by a permutation.
        let mut scale_of = [[0.0_f32; 8]; R];
        // SAFETY: by this function's own contract. Units lie as the factors do.
        unsafe {
            for r in 0..R {
                Avx2::store_f32(scale_of[r].as_mut_ptr(), scales[r]);
            }
            for span in 0..SPANS {
                for group in 0..count {
                    let first = ((block + group) * SPANS + span) * (SPAN / C::STEP);
                    let unit = block * SPANS + span * 8 + group;
                    for r in (0..R).step_by(2) {
                        let scale = Avx512::splat(*scale_of[r].as_ptr().add(group));
                        let second = _mm_load_ss(scale_of[r + 1].as_ptr().add(group));
                        let scale = _mm512_mask_broadcastss_ps(scale, UPPER, second);
                        let mut sums = [_mm512_setzero_si512(); M];
                        for step in first..first + SPAN / C::STEP {
                            let words = self.load_pair::<R, M>(at, r, step);
                            for i in 0..M {
                                let x = at.x(i, step * C::STEP);
                                let products = C::products_of_two::<M>(self.windows, words, x);
                                sums[i] = match C::STEP == SPAN {
                                    true => products,
                                    false => _mm512_add_epi32(sums[i], products),
                                };
                            }
                        }
                        for i in 0..M {
                            let unit = Avx512::splat(*at.units[i].add(unit));
                            let sum = _mm512_cvtepi32_ps(sums[i]);
                            let factor = Avx512::mul(scale, unit);
                            acc[r / 2][i] = Avx512::mul_add(sum, factor, acc[r / 2][i]);
                        }
                    }
                }
            }
        }
    }

    /// The codes of a step of rows `r` and `r + 1`; asks for a part of what is far.
    ///
    /// # Safety
    /// As [`Packed::load`].
    #[inline(always)]
    unsafe fn load_pair<const R: usize, const M: usize>(
        &self,
        at: &Pointers<M>,
        r: usize,
        step: usize,
    ) -> __m512i {
        // SAFETY: by this function's own contract.
        unsafe {
            let first = _mm512_castsi256_si512(self.load::<R, M>(at, r, step));
            _mm512_inserti64x4::<1>(first, self.load::<R, M>(at, r + 1, step))
        }
    }
}
