//! The product of some rows of weights with some rows of `x`.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::super::format::MAX_VECTORS;
use super::super::{Format, Part};
use super::arrange::Arranged;
use super::scales::ScaleFormat;
use super::unpack::Unpack;
use crate::isa::Avx512;
use crate::stream::{self, BATCH, Place, Stream};
use crate::view::Rows;

/// Products with one `x`, for threads to share.
pub(super) struct Job<'a> {
    pub(super) format: Format,
    /// See [`lane_groups`](super::super::format::lane_groups).
    pub(super) order: [[i32; 16]; MAX_VECTORS],
    pub(super) arranged: &'a Arranged,
    /// Weights, all of one kind.
    pub(super) parts: &'a [Part<'a>],
}

impl Job<'_> {
    /// Computes columns `range` of a part's product.
    ///
    /// # Safety
    /// The machine has AVX-512 with the bfloat16 dot product. No other thread has these columns,
    /// which exist. The codes of the weights have 4 bits, and their scales are `S`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,f16c")]
    pub(super) unsafe fn columns<S: ScaleFormat>(&self, part: usize, range: Range<usize>) {
        let unpack = Unpack::new::<S>();
        // SAFETY: by this function's own contract.
        unsafe {
            stream::blocks(
                &Packed::<S> {
                    job: self,
                    unpack,
                    scales: PhantomData,
                },
                part,
                range,
            );
        }
    }
}

/// Weights of 4 bits with scales `S`.
struct Packed<'a, S> {
    job: &'a Job<'a>,
    unpack: Unpack,
    scales: PhantomData<fn() -> S>,
}

impl<S: ScaleFormat> Stream for Packed<'_, S> {
    type Simd = Avx512;
    const TALL: bool = true;

    fn x_rows(&self) -> usize {
        self.job.arranged.rows
    }

    fn row_bytes(&self) -> usize {
        self.job.parts[0].w.row_bytes()
    }

    fn y(&self, part: usize) -> Rows<'_> {
        self.job.parts[part].y
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) {
        let Job {
            format,
            order,
            arranged,
            parts,
        } = self.job;
        let w = &parts[place.part].w;
        let (row_bytes, groups) = (w.row_bytes(), w.groups());
        let (scales_at, biases_at) = w.scale_pointers();
        let lines_per_block = 16 * format.group_size() / 128;
        let lines = row_bytes / 64;
        let tail = first_lanes(row_bytes % 64 / 4);
        // SAFETY: by the trait's contract; groups, lines and the tail stay within a row.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); M]; R];
            let codes = w.packed.as_ptr().add(place.row * row_bytes);
            // The rows lie end to end: asked for from the first line of the first to the last of
            // the last, instead of in the order of use, they come a tenth faster.
            let far = codes.wrapping_add(place.ahead * row_bytes);
            let mut line = 0;
            for block in (0..groups).step_by(16) {
                let mask = first_lanes(groups - block);
                let mut scales = [_mm512_setzero_ps(); R];
                for r in 0..R {
                    let at = (place.row + r) * groups + block;
                    scales[r] = S::load(scales_at, at, mask);
                    S::prefetch(scales_at, at + place.ahead * groups);
                    if S::AFFINE {
                        S::prefetch(biases_at, at + place.ahead * groups);
                        let biases = S::load(biases_at, at, mask);
                        let biases = Unpack::correct(&mut scales[r], biases);
                        for i in 0..M {
                            let x = _mm512_loadu_ps(arranged.sums(place.m + i).add(block));
                            sums[r][i] = _mm512_fmadd_ps(biases, x, sums[r][i]);
                        }
                    }
                }
                let whole = lines_per_block.min(lines - line);
                for order in &order[..whole] {
                    let order = _mm512_loadu_si512(order.as_ptr().cast());
                    for r in 0..R {
                        _mm_prefetch::<_MM_HINT_T0>(far.wrapping_add((line * R + r) * 64).cast());
                        let words = _mm512_loadu_si512(codes.add(r * row_bytes + line * 64).cast());
                        let scale = _mm512_permutexvar_ps(order, scales[r]);
                        self.line(words, place.m, line, scale, &mut sums[r]);
                    }
                    line += 1;
                }
                if whole < lines_per_block && tail != 0 {
                    let order = _mm512_loadu_si512(order[whole].as_ptr().cast());
                    for r in 0..R {
                        _mm_prefetch::<_MM_HINT_T0>(far.wrapping_add((line * R + r) * 64).cast());
                        let at = codes.add(r * row_bytes + line * 64);
                        let words = _mm512_maskz_loadu_epi32(tail, at.cast());
                        let scale = _mm512_permutexvar_ps(order, scales[r]);
                        self.line(words, place.m, line, scale, &mut sums[r]);
                    }
                }
            }
            stream::sum_lanes::<Avx512, R, M>(&sums, results, at);
        }
    }
}

impl<S: ScaleFormat> Packed<'_, S> {
    /// Adds to `sums` the products of a line of weights with that line's values of rows
    /// `m..m + M` of `x`, times `scale`.
    ///
    /// # Safety
    /// As [`Job::columns`]; `line` is a line of a row.
    #[inline(always)]
    unsafe fn line<const M: usize>(
        &self,
        words: __m512i,
        m: usize,
        line: usize,
        scale: __m512,
        sums: &mut [__m512; M],
    ) {
        // SAFETY: by this function's own contract; the arranged values have vectors for every
        // line of a row.
        unsafe {
            let weights = self.unpack.line::<S>(words);
            for j in 0..M {
                let values = self.job.arranged.values(m + j);
                let mut sum = _mm512_setzero_ps();
                for i in 0..4 {
                    let vector = line * 4 + i;
                    let x = _mm512_loadu_si512(values.add(vector * 32).cast());
                    sum = _mm512_dpbf16_ps(sum, as_bf16(weights[i]), as_bf16(x));
                }
                sums[j] = _mm512_fmadd_ps(sum, scale, sums[j]);
            }
        }
    }
}

/// A mask of the first `n` of sixteen lanes.
pub(super) const fn first_lanes(n: usize) -> __mmask16 {
    if n >= 16 { 0xffff } else { (1 << n) - 1 }
}

/// The same bits as pairs of bfloat16.
#[inline(always)]
pub(super) fn as_bf16(v: __m512i) -> __m512bh {
    // SAFETY: two vectors of one size, for both of which any bits are a value.
    unsafe { std::mem::transmute(v) }
}
