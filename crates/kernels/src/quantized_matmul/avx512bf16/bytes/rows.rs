//! Sums of four rows in one vector.
//!
//! Quarter `c` of a line has 16 elements, eight pairs. Step `j` takes pair `j` of each quarter, and so a sum is one
//! of four parts, which are added at the end. The lanes of a quarter are four rows. If these are rows of `x`, all
//! lanes of a quarter have one pair of weights; if they are rows of weights, one pair of `x`. Either way a lane
//! adds the same products in the same order.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::super::super::format::MAX_VECTORS;
use super::super::super::{Format, Part};
use super::super::rows::first_lanes;
use super::super::scales::ScaleFormat;
use super::PAIR;
use super::arrange::Arranged;
use super::unpack::{MIDDLE, Unpack};
use crate::isa::Avx512;
use crate::stream::{self, BATCH, Place, Stream};
use crate::view::Rows;

/// Rows that fill a vector.
pub(super) const FOUR: usize = 4;

/// Products with one `x`, for threads to share.
pub(super) struct Job<'a> {
    pub(super) format: Format,
    /// For each line of a block of 16 groups, the group of each lane.
    pub(super) order: [[i32; 16]; MAX_VECTORS],
    /// See [`places`](super::places).
    pub(super) places: [[usize; 2]; MAX_VECTORS],
    pub(super) arranged: &'a Arranged,
    /// Weights, all of one kind.
    pub(super) parts: &'a [Part<'a>],
}

impl Job<'_> {
    /// Computes columns `range` of a part's product.
    ///
    /// # Safety
    /// The machine has the instruction set. No other thread has these columns, which exist. The codes of the
    /// weights have 8 bits, and their scales are `S`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi,gfni,f16c")]
    pub(super) unsafe fn columns<S: ScaleFormat>(&self, part: usize, range: Range<usize>) {
        let bytes = Bytes::<S> {
            job: self,
            unpack: Unpack::new(),
            scales: PhantomData,
        };
        // SAFETY: by this function's own contract.
        unsafe {
            match self.arranged.rows {
                1 => stream::some::<_, FOUR, 1>(&bytes, part, 0, &range, range.end),
                2 => stream::some::<_, FOUR, 2>(&bytes, part, 0, &range, range.end),
                3..=4 => stream::some::<_, FOUR, 4>(&bytes, part, 0, &range, range.end),
                5..=8 => stream::some::<_, FOUR, 8>(&bytes, part, 0, &range, range.end),
                9..=12 => stream::some::<_, FOUR, 12>(&bytes, part, 0, &range, range.end),
                _ => stream::some::<_, FOUR, 16>(&bytes, part, 0, &range, range.end),
            };
        }
    }
}

/// Affine weights of 8 bits with scales `S`.
pub(super) struct Bytes<'a, S> {
    pub(super) job: &'a Job<'a>,
    pub(super) unpack: Unpack,
    scales: PhantomData<fn() -> S>,
}

impl<S: ScaleFormat> Stream for Bytes<'_, S> {
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
        // SAFETY: by the trait's contract; more than a pair are as many as fours.
        unsafe {
            match M / FOUR {
                _ if M <= PAIR => self.alone::<R, M>(place, results, at),
                1 => self.fours::<R, 1>(place, results, at),
                2 => self.fours::<R, 2>(place, results, at),
                3 => self.fours::<R, 3>(place, results, at),
                _ => self.fours::<R, 4>(place, results, at),
            }
        }
    }
}

impl<S: ScaleFormat> Bytes<'_, S> {
    /// Where the codes begin, and those that are to be asked for. The rows lie end to end: asked for from the
    /// first line of the first to the last of the last, instead of in the order of use, they come a tenth faster.
    ///
    /// # Safety
    /// The place exists.
    #[inline(always)]
    pub(super) unsafe fn codes(&self, place: Place) -> (*const u8, *const u8) {
        let w = &self.job.parts[place.part].w;
        let codes = w.packed.as_ptr().wrapping_add(place.row * w.row_bytes());
        (codes, codes.wrapping_add(place.ahead * w.row_bytes()))
    }

    /// The first groups of blocks of 16.
    #[inline(always)]
    pub(super) fn blocks(&self, place: Place) -> std::iter::StepBy<Range<usize>> {
        (0..self.job.parts[place.part].w.groups()).step_by(16)
    }

    /// Lines of the block that begins with this one.
    #[inline(always)]
    pub(super) fn lines(&self, line: usize) -> usize {
        let left = self.row_bytes().div_ceil(64) - line;
        left.min(16 * self.job.format.group_size() / 64)
    }

    /// Line `line` of a row, of which `from` is the first byte. What is beyond the row is zero.
    ///
    /// # Safety
    /// The machine has AVX-512; the line exists.
    #[inline(always)]
    pub(super) unsafe fn load(&self, from: *const u8, line: usize) -> __m512i {
        let words = first_lanes((self.row_bytes() - line * 64) / 4);
        // SAFETY: by this function's own contract; lanes without a bit are not touched.
        unsafe { _mm512_maskz_loadu_epi32(words, from.cast()) }
    }

    /// Scales of 16 groups of row `r`, and the biases that belong to what [`Unpack::line`] makes of bytes; zero
    /// beyond the last group.
    ///
    /// # Safety
    /// The machine has AVX-512; the row exists, and a group `block`.
    #[inline(always)]
    pub(super) unsafe fn scales(&self, place: Place, r: usize, block: usize) -> (__m512, __m512) {
        let w = &self.job.parts[place.part].w;
        let (scales, biases) = w.scale_pointers();
        let groups = w.groups();
        let at = (place.row + r) * groups + block;
        let mask = first_lanes(groups - block);
        // SAFETY: by this function's own contract.
        unsafe {
            S::prefetch(scales, at + place.ahead * groups);
            S::prefetch(biases, at + place.ahead * groups);
            let scales = S::load(scales, at, mask);
            let biases = S::load(biases, at, mask);
            let middle = _mm512_set1_ps(MIDDLE);
            (scales, _mm512_fmadd_ps(scales, middle, biases))
        }
    }
}

/// Asks for a line, which need not exist.
#[inline(always)]
pub(super) fn prefetch(line: *const u8) {
    // SAFETY: any address may be asked for.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

/// Word `j` of each quarter, in all lanes of it.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
pub(super) unsafe fn spread(v: __m512i, j: usize) -> __m512i {
    // SAFETY: by this function's own contract.
    unsafe {
        match j {
            0 => _mm512_shuffle_epi32::<0x00>(v),
            1 => _mm512_shuffle_epi32::<0x55>(v),
            2 => _mm512_shuffle_epi32::<0xaa>(v),
            _ => _mm512_shuffle_epi32::<0xff>(v),
        }
    }
}

/// The sums of the four rows of a vector.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
pub(super) unsafe fn sum_quarters(v: __m512) -> [f32; FOUR] {
    let mut sums = [0.0; FOUR];
    // SAFETY: by this function's own contract; there is room for four.
    unsafe {
        let v = _mm512_add_ps(v, _mm512_shuffle_f32x4::<0b01_00_11_10>(v, v));
        let v = _mm512_castps512_ps256(v);
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        _mm_storeu_ps(sums.as_mut_ptr(), v);
    }
    sums
}
