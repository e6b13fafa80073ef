//! The product of some rows of weights with all rows of `x`.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::Format;
use super::arrange::Arranged;
use super::scales::ScaleFormat;
use super::unpack::Unpack;
use crate::isa::{Avx512, Simd};
use crate::vector::store_results;
use crate::view::Rows;

/// A product, for threads to share.
pub(super) struct Job<'a> {
    pub(super) format: Format,
    pub(super) packed: *const u8,
    pub(super) row_bytes: usize,
    pub(super) scales: *const u8,
    /// Not looked at where the mode has none.
    pub(super) biases: *const u8,
    /// Groups of a row.
    pub(super) groups: usize,
    /// See [`lane_groups`].
    pub(super) order: [[i32; 16]; MAX_LINES],
    pub(super) arranged: &'a Arranged,
    pub(super) y: Rows<'a>,
}

// SAFETY: weights and arranged values are only read; each row of weights, and with it each
// element of `y`, belongs to one thread.
unsafe impl Sync for Job<'_> {}

/// Most lines of weights that sixteen groups fill: bytes in groups of 128.
const MAX_LINES: usize = 32;

/// Results that are collected before they are converted and stored.
const BATCH: usize = 32;

/// How far ahead of its use a line of weights is asked for, at least. A load takes some 500 cycles
/// to come from memory, and at full bandwidth a line arrives every 5 to 10 of them.
const PREFETCH: usize = 8 * 1024;

impl Job<'_> {
    /// Computes `y[m..m + M, range]`, `R` rows of weights at a time, and gives back `M`. The
    /// thread will go on to row `end` of the weights.
    ///
    /// # Safety
    /// The machine has AVX-512 with the bfloat16 dot product. `range` is within the rows of the
    /// weights, and no other thread has any of it. The pointers lead to weights of `format`,
    /// whose codes have `BITS` bits and whose scales are `S`, and `x` has `M` rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,f16c")]
    pub(super) unsafe fn run<S, const BITS: usize, const R: usize, const M: usize>(
        &self,
        m: usize,
        range: Range<usize>,
        end: usize,
    ) -> usize
    where
        S: ScaleFormat,
    {
        let unpack = Unpack::new::<S, BITS>();
        let ahead = PREFETCH.div_ceil(self.row_bytes).next_multiple_of(R);
        let mut results = [[0.0_f32; BATCH]; M];
        for first in range.clone().step_by(BATCH) {
            let count = BATCH.min(range.end - first);
            let whole = count / R * R;
            // SAFETY: by this function's own contract.
            unsafe {
                for i in (0..whole).step_by(R) {
                    // Another thread may be reading what follows this range.
                    let ahead = if first + i + ahead + R <= end {
                        ahead
                    } else {
                        0
                    };
                    let sums = self.rows::<S, BITS, R, M>(m, first + i, &unpack, ahead);
                    for (results, sums) in results.iter_mut().zip(&sums) {
                        results[i..i + R].copy_from_slice(sums);
                    }
                }
                for i in whole..count {
                    let sums = self.rows::<S, BITS, 1, M>(m, first + i, &unpack, 0);
                    for (results, sums) in results.iter_mut().zip(&sums) {
                        results[i] = sums[0];
                    }
                }
                for (i, results) in results.iter().enumerate() {
                    store_results::<Avx512>(self.y, m + i, first, &results[..count]);
                }
            }
        }
        M
    }

    /// The products of rows `row..row + R` of the weights and `m..m + M` of `x`. Weights that lie
    /// `ahead` rows further are asked for.
    ///
    /// # Safety
    /// As [`Job::run`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,f16c")]
    #[inline]
    unsafe fn rows<S: ScaleFormat, const BITS: usize, const R: usize, const M: usize>(
        &self,
        m: usize,
        row: usize,
        unpack: &Unpack,
        ahead: usize,
    ) -> [[f32; R]; M] {
        let lines_per_block = 16 * self.format.group_size() * BITS / 512;
        let lines = self.row_bytes / 64;
        let tail = first_lanes(self.row_bytes % 64 / 4);
        let mut acc = [[_mm512_setzero_ps(); M]; R];
        // SAFETY: as `run`; groups, lines and the tail stay within a row.
        unsafe {
            let w = self.packed.add(row * self.row_bytes);
            // The rows lie end to end: asked for from the first line of the first to the last of
            // the last, instead of in the order of use, they come a tenth faster.
            let far = w.wrapping_add(ahead * self.row_bytes);
            let mut line = 0;
            for block in (0..self.groups).step_by(16) {
                let mask = first_lanes(self.groups - block);
                let mut scales = [_mm512_setzero_ps(); R];
                for r in 0..R {
                    let at = (row + r) * self.groups + block;
                    S::prefetch(self.scales, at + ahead * self.groups);
                    if S::AFFINE {
                        S::prefetch(self.biases, at + ahead * self.groups);
                    }
                    scales[r] = S::load(self.scales, at, mask);
                    if S::AFFINE {
                        let biases = S::load(self.biases, at, mask);
                        let biases = unpack.correct::<BITS>(&mut scales[r], biases);
                        for (i, acc) in acc[r].iter_mut().enumerate() {
                            let sums = _mm512_loadu_ps(self.arranged.sums(m + i).add(block));
                            *acc = _mm512_fmadd_ps(biases, sums, *acc);
                        }
                    }
                }
                let whole = lines_per_block.min(lines - line);
                for order in &self.order[..whole] {
                    let order = _mm512_loadu_si512(order.as_ptr().cast());
                    for r in 0..R {
                        let at = w.add(r * self.row_bytes + line * 64);
                        _mm_prefetch::<_MM_HINT_T0>(far.wrapping_add((line * R + r) * 64).cast());
                        let words = _mm512_loadu_si512(at.cast());
                        let scale = _mm512_permutexvar_ps(order, scales[r]);
                        self.line::<S, BITS, M>(words, unpack, m, line, scale, &mut acc[r]);
                    }
                    line += 1;
                }
                if whole < lines_per_block && tail != 0 {
                    let order = _mm512_loadu_si512(self.order[whole].as_ptr().cast());
                    for r in 0..R {
                        let at = w.add(r * self.row_bytes + line * 64);
                        _mm_prefetch::<_MM_HINT_T0>(far.wrapping_add((line * R + r) * 64).cast());
                        let words = _mm512_maskz_loadu_epi32(tail, at.cast());
                        let scale = _mm512_permutexvar_ps(order, scales[r]);
                        self.line::<S, BITS, M>(words, unpack, m, line, scale, &mut acc[r]);
                    }
                }
            }
        }
        let mut sums = [[0.0; R]; M];
        for (i, sums) in sums.iter_mut().enumerate() {
            let mut column = [_mm512_setzero_ps(); R];
            for (column, acc) in column.iter_mut().zip(&acc) {
                *column = acc[i];
            }
            *sums = sum_lanes(&column);
        }
        sums
    }

    /// Adds to `acc` the products of a line of weights with that line's values of `M` rows of
    /// `x`, times `scale`.
    ///
    /// # Safety
    /// As [`Job::run`]; `line` is a line of a row.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    unsafe fn line<S: ScaleFormat, const BITS: usize, const M: usize>(
        &self,
        words: __m512i,
        unpack: &Unpack,
        m: usize,
        line: usize,
        scale: __m512,
        acc: &mut [__m512; M],
    ) {
        let weights = unpack.line::<S, BITS>(words);
        for (j, acc) in acc.iter_mut().enumerate() {
            let values = self.arranged.values(m + j);
            let mut sum = _mm512_setzero_ps();
            for i in 0..4 {
                let vector = if BITS == 4 {
                    line * 4 + i
                } else {
                    line * 2 + i / 2
                };
                // SAFETY: the arranged values have vectors for every line of a row.
                let x = unsafe { _mm512_loadu_si512(values.add(vector * 32).cast()) };
                sum = _mm512_dpbf16_ps(sum, as_bf16(weights[i]), as_bf16(x));
            }
            *acc = _mm512_fmadd_ps(sum, scale, *acc);
        }
    }
}

/// For each line of a block of sixteen groups, the group within the block of each lane's codes.
pub(super) fn lane_groups(format: Format) -> [[i32; 16]; MAX_LINES] {
    let lane = 32 / format.bits();
    let shift = format.group_size().trailing_zeros();
    let mut groups = [[0; 16]; MAX_LINES];
    for (line, groups) in groups.iter_mut().enumerate() {
        for (i, group) in groups.iter_mut().enumerate() {
            *group = (((line * 16 + i) * lane) >> shift) as i32;
        }
    }
    groups
}

/// A mask of the first `n` of sixteen lanes.
const fn first_lanes(n: usize) -> __mmask16 {
    if n >= 16 { 0xffff } else { (1 << n) - 1 }
}

/// The same bits as pairs of bfloat16.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn as_bf16(v: __m512i) -> __m512bh {
    // SAFETY: two vectors of one size, for both of which any bits are a value.
    unsafe { std::mem::transmute(v) }
}

/// The sum of the lanes of each accumulator.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn sum_lanes<const R: usize>(acc: &[__m512; R]) -> [f32; R] {
    let mut sums = [0.0; R];
    // SAFETY: the machine has the instruction set, as this function's attribute says.
    unsafe {
        if R == 4 {
            let four = [acc[0], acc[1 % R], acc[2 % R], acc[3 % R]];
            sums.copy_from_slice(&Avx512::sum_four(four)[..R]);
        } else {
            for (sum, acc) in sums.iter_mut().zip(acc) {
                *sum = Avx512::sum(*acc);
            }
        }
    }
    sums
}
