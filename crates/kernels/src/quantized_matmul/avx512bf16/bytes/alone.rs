//! One row of `x` or two: the lanes of a quarter are four rows of weights.

use std::arch::x86_64::*;

use super::super::rows::as_bf16;
use super::super::scales::ScaleFormat;
use super::arrange::{transposed, transposed_floats};
use super::rows::{Bytes, FOUR, prefetch, spread, sum_quarters};
use crate::stream::{BATCH, Place, Stream};

impl<S: ScaleFormat> Bytes<'_, S> {
    /// Up to four rows of weights with `M` of `x`, each alone.
    ///
    /// # Safety
    /// As [`Stream::sums`].
    #[inline(always)]
    pub(super) unsafe fn alone<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]],
        at: usize,
    ) {
        let arranged = self.job.arranged;
        let row_bytes = self.row_bytes();
        // SAFETY: by this function's own contract; groups and lines stay within a row.
        unsafe {
            let (codes, far) = self.codes(place);
            let mut sums = [_mm512_setzero_ps(); M];
            let mut line = 0;
            for block in self.blocks(place) {
                // Rows that there are not are the last one again.
                let mut scales = [_mm512_setzero_ps(); FOUR];
                let mut biases = [_mm512_setzero_ps(); FOUR];
                for r in 0..FOUR {
                    (scales[r], biases[r]) = self.scales(place, r.min(R - 1), block);
                }
                for (j, biases) in transposed_floats(biases).into_iter().enumerate() {
                    for i in 0..M {
                        let x = arranged.sums(place.m + i).add(block);
                        let x = spread(_mm512_loadu_si512(x.cast()), j);
                        sums[i] = _mm512_fmadd_ps(biases, _mm512_castsi512_ps(x), sums[i]);
                    }
                }
                let mut of_groups = [0.0_f32; 16 * FOUR];
                for (j, scales) in transposed_floats(scales).into_iter().enumerate() {
                    _mm512_storeu_ps(of_groups.as_mut_ptr().add(16 * j), scales);
                }
                for &[first, second] in &self.job.places[..self.lines(line)] {
                    let mut weights = [[_mm512_setzero_si512(); 2]; FOUR];
                    for r in 0..FOUR {
                        if r < R {
                            prefetch(far.wrapping_add((line * R + r) * 64));
                        }
                        let from = codes.wrapping_add(r.min(R - 1) * row_bytes + line * 64);
                        weights[r] = self.unpack.line(self.load(from, line));
                    }
                    let mut products = [_mm512_setzero_ps(); M];
                    for half in 0..2 {
                        let [a, b, c, d] = weights;
                        let steps = transposed([a[half], b[half], c[half], d[half]]);
                        for (j, weights) in steps.into_iter().enumerate() {
                            for i in 0..M {
                                let x = arranged.values(place.m + i).add(line * 64 + half * 32);
                                let x = spread(_mm512_loadu_si512(x.cast()), j);
                                products[i] =
                                    _mm512_dpbf16_ps(products[i], as_bf16(weights), as_bf16(x));
                            }
                        }
                    }
                    let [first, second] = [first, second].map(|at| of_groups.as_ptr().add(at));
                    let scale = _mm512_broadcast_f32x4(_mm_loadu_ps(first));
                    let scale = _mm512_mask_broadcast_f32x4(scale, 0xff00, _mm_loadu_ps(second));
                    for i in 0..M {
                        sums[i] = _mm512_fmadd_ps(products[i], scale, sums[i]);
                    }
                    line += 1;
                }
            }
            for i in 0..M {
                let sums = sum_quarters(sums[i]);
                results[i][at..at + R].copy_from_slice(&sums[..R]);
            }
        }
    }
}
