//! More rows of `x`: the lanes of a quarter are four of them.

use std::arch::x86_64::*;

use super::super::rows::as_bf16;
use super::super::scales::ScaleFormat;
use super::rows::{Bytes, FOUR, prefetch, spread, sum_quarters};
use crate::stream::{BATCH, Place, Stream};

impl<S: ScaleFormat> Bytes<'_, S> {
    /// `R` rows of weights with `Q` times four of `x`.
    ///
    /// # Safety
    /// As [`Stream::sums`]; the last four have one row at least.
    #[inline(always)]
    pub(super) unsafe fn fours<const R: usize, const Q: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]],
        at: usize,
    ) {
        let arranged = self.job.arranged;
        let row_bytes = self.row_bytes();
        let whole = row_bytes / 64;
        // SAFETY: by this function's own contract; groups and lines stay within a row.
        unsafe {
            let (codes, far) = self.codes(place);
            let mut sums = [[_mm512_setzero_ps(); Q]; R];
            let mut line = 0;
            for block in self.blocks(place) {
                let mut scales = [_mm512_setzero_ps(); R];
                for r in 0..R {
                    let biases;
                    (scales[r], biases) = self.scales(place, r, block);
                    for j in 0..FOUR {
                        let biases = spread(_mm512_castps_si512(biases), j);
                        for q in 0..Q {
                            let x = arranged.sums(place.m + FOUR * q);
                            let x = _mm512_loadu_ps(x.add(FOUR * block + 16 * j));
                            let biases = _mm512_castsi512_ps(biases);
                            sums[r][q] = _mm512_fmadd_ps(biases, x, sums[r][q]);
                        }
                    }
                }
                for order in &self.job.order[..self.lines(line)] {
                    let mut weights = [[_mm512_setzero_si512(); 2]; R];
                    for r in 0..R {
                        prefetch(far.wrapping_add((line * R + r) * 64));
                        let from = codes.wrapping_add(r * row_bytes + line * 64);
                        // A mask takes longer to make than the branch, which one row alone does not wait for.
                        let bytes = match line < whole {
                            true => _mm512_loadu_si512(from.cast()),
                            false => self.load(from, line),
                        };
                        weights[r] = self.unpack.line(bytes);
                    }
                    let mut products = [[_mm512_setzero_ps(); Q]; R];
                    for half in 0..2 {
                        for j in 0..FOUR {
                            let mut x = [_mm512_setzero_si512(); Q];
                            for q in 0..Q {
                                let values = arranged.values(place.m + FOUR * q);
                                let vector = 2 * line * FOUR + half * FOUR + j;
                                x[q] = _mm512_loadu_si512(values.add(vector * 32).cast());
                            }
                            for r in 0..R {
                                let weights = as_bf16(spread(weights[r][half], j));
                                for q in 0..Q {
                                    products[r][q] =
                                        _mm512_dpbf16_ps(products[r][q], weights, as_bf16(x[q]));
                                }
                            }
                        }
                    }
                    let order = _mm512_loadu_si512(order.as_ptr().cast());
                    for r in 0..R {
                        let scale = _mm512_permutexvar_ps(order, scales[r]);
                        for q in 0..Q {
                            sums[r][q] = _mm512_fmadd_ps(products[r][q], scale, sums[r][q]);
                        }
                    }
                    line += 1;
                }
            }
            for r in 0..R {
                for q in 0..Q {
                    let sums = sum_quarters(sums[r][q]);
                    for (i, sum) in sums.into_iter().enumerate() {
                        results[FOUR * q + i][at + r] = sum;
                    }
                }
            }
        }
    }
}
