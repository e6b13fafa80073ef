//! Weights as integers, panel by panel.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::scales::ScaleFormat;
use super::lanes::Lanes;
use super::{BLOCK, Blocks};
use crate::gemm::transpose;
use crate::isa::{Avx2, Simd};
use crate::quantized_matmul::dequantize::code_bytes;
use crate::quantized_matmul::{Mode, Quantized};
use crate::scratch::Scratch;

/// Panels of [`Lanes::WIDTH`] rows, and room for more.
pub(super) struct Panels {
    pub(super) blocks: Blocks,
    /// For each panel, for each word, that of each row.
    pub(super) words: *mut u32,
    /// For each panel, for each block: the scale of each row, then its bias.
    pub(super) factors: *mut f32,
}

impl Panels {
    /// Packs rows `range` of `w`. Where rows are missing to a whole panel, the last one stands in.
    ///
    /// # Safety
    /// The machine has the instruction set; the rows exist and are not none; there is room for their panels. The scales of
    /// `w` are `S`.
    #[inline(always)]
    pub(super) unsafe fn pack<L: Lanes, S: ScaleFormat>(
        &self,
        w: &Quantized<'_>,
        range: Range<usize>,
    ) {
        // As many at a time as a vector has.
        let (rows, cols) = (L::Simd::LANES, w.cols());
        // Rows apart by a cache line more than their length, which may be a power of two.
        let stride = cols / 2 + 16;
        let mut integers = Scratch::<u32>::take(rows * stride);
        let mut bytes = Scratch::<u8>::take(cols);
        let mut from = [std::ptr::null::<u32>(); 16];
        let from = &mut from[..rows];
        for first in (0..range.len().next_multiple_of(L::WIDTH)).step_by(rows) {
            // SAFETY: by this function's own contract.
            unsafe {
                for (i, from) in from.iter_mut().enumerate() {
                    let row = (range.start + first + i).min(range.end - 1);
                    let to = integers.as_mut_ptr().add(i * stride);
                    let bytes = code_bytes::<Avx2>(w, row, bytes.as_mut_ptr());
                    center(bytes, cols, twice_the_mean(w), to.cast());
                    *from = to;
                    self.factors::<L, S>(w, row, first + i);
                }
                let (panel, lane) = (first / L::WIDTH, first % L::WIDTH);
                let to = self
                    .words
                    .add(panel * L::WIDTH * self.blocks.words() + lane);
                transpose::<L::Simd>(from, self.blocks.words(), to, L::WIDTH);
            }
        }
    }

    /// The words and the factors of a panel.
    #[inline(always)]
    pub(super) fn panel<L: Lanes>(&self, panel: usize) -> (*const u32, *const f32) {
        let words = panel * L::WIDTH * self.blocks.words();
        let factors = panel * 2 * L::WIDTH * self.blocks.count;
        (
            self.words.wrapping_add(words),
            self.factors.wrapping_add(factors),
        )
    }

    /// The scales and biases of row `row` of `w` for centred codes, to place `place`.
    ///
    /// # Safety
    /// As [`Panels::pack`].
    #[inline(always)]
    unsafe fn factors<L: Lanes, S: ScaleFormat>(
        &self,
        w: &Quantized<'_>,
        row: usize,
        place: usize,
    ) {
        let (groups, (scales, biases)) = (w.groups(), w.scale_pointers());
        let per_group = (w.format().group_size() / BLOCK).max(1);
        let middle = twice_the_mean(w) as f32 / 2.0;
        // SAFETY: by this function's own contract.
        unsafe {
            let to = self.panel::<L>(place / L::WIDTH).1.cast_mut();
            let to = to.add(place % L::WIDTH);
            for first in (0..groups).step_by(8) {
                let count = (groups - first).min(8);
                let at = S::SIZE * (row * groups + first);
                let mut parts = [0.0; 8];
                let mut at_middle = [0.0; 8];
                // Integers are twice a code, and that is of an affine weight what it is, of others twice.
                let scale = S::load(scales.add(at), count);
                let factor = if S::AFFINE { 0.5 } else { 0.25 };
                let part = Avx2::mul(scale, Avx2::splat(factor));
                if S::AFFINE {
                    let bias = S::load(biases.add(at), count);
                    let bias = Avx2::mul_add(scale, Avx2::splat(middle), bias);
                    Avx2::store_f32(at_middle.as_mut_ptr(), bias);
                }
                Avx2::store_f32(parts.as_mut_ptr(), part);
                for i in 0..count * per_group {
                    let to = to.add((first * per_group + i) * 2 * L::WIDTH);
                    *to = parts[i / per_group];
                    *to.add(L::WIDTH) = at_middle[i / per_group];
                }
            }
        }
    }
}

/// Twice the mean of all bytes that [`code_bytes`] gives.
fn twice_the_mean(w: &Quantized<'_>) -> i16 {
    match w.format().mode() {
        Mode::Affine => (1 << w.format().bits()) - 1,
        // Twice a float plus 12.
        _ => 24,
    }
}

/// Twice the bytes less `twice`.
///
/// # Safety
/// The machine has AVX2; there are `cols` bytes, in whole sixteens, and room for as many integers.
#[inline(always)]
unsafe fn center(bytes: *const u8, cols: usize, twice: i16, to: *mut i16) {
    // SAFETY: by this function's own contract.
    unsafe {
        let twice = _mm256_set1_epi16(twice);
        for at in (0..cols).step_by(16) {
            let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(bytes.add(at).cast()));
            let codes = _mm256_sub_epi16(_mm256_add_epi16(codes, codes), twice);
            _mm256_storeu_si256(to.add(at).cast(), codes);
        }
    }
}
