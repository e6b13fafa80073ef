//! `x` as integers, tile by tile.

use std::arch::x86_64::*;

use half::bf16;

use super::super::arrange::{largest_exponent, unit_and_factor};
use super::Blocks;
use crate::isa::{Avx2, Float, Simd};
use crate::scratch::{Scratch, Shared};
use crate::{Cpu, View};

/// An `x` of some rows, packed for products with any weights of one format.
pub(super) struct PackedX {
    pub(super) blocks: Blocks,
    pub(super) rows: usize,
    /// Rows of a full tile.
    pub(super) height: usize,
    /// Tiles: for each word, that of each row of the tile.
    words: Scratch<u32>,
    /// Tiles: for each block, for each row, what an integer stands for and the sum of the elements.
    factors: Scratch<[f32; 2]>,
}

impl PackedX {
    /// Packs `x`, which is bfloat16 and not empty.
    pub(super) fn new(cpu: &Cpu, x: &View<'_>, blocks: Blocks, height: usize) -> Self {
        let rows = x.layout().rows;
        let mut this = Self {
            blocks,
            rows,
            height,
            words: Scratch::take(rows * blocks.words()),
            factors: Scratch::take(rows * blocks.count),
        };
        let words = Shared::new(this.words.as_mut_ptr());
        let factors = Shared::new(this.factors.as_mut_ptr());
        cpu.pool().run(rows.div_ceil(height), |tile| {
            let first = tile * height;
            let height = height.min(rows - first);
            for i in 0..height {
                // SAFETY: the machine has AVX2, since a `Cpu` that names it could be made; the row exists, and
                // its places in the tile are this task's.
                unsafe {
                    let words = words.get().add(first * blocks.words() + i);
                    let factors = factors.get().add(first * blocks.count + i);
                    pack_row(x.row(0, first + i).cast(), blocks, height, words, factors);
                }
            }
        });
        this
    }

    /// The words and the factors of the tile whose first row this is.
    #[inline(always)]
    pub(super) fn tile(&self, first: usize) -> (*const u32, *const [f32; 2]) {
        let words = self
            .words
            .as_ptr()
            .wrapping_add(first * self.blocks.words());
        let factors = self
            .factors
            .as_ptr()
            .wrapping_add(first * self.blocks.count);
        (words, factors)
    }
}

/// Packs a row: its words and factors come to lie `height` apart.
///
/// # Safety
/// The machine has AVX2; the row has so many blocks, and there is room for what becomes of them.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
unsafe fn pack_row(
    from: *const bf16,
    blocks: Blocks,
    height: usize,
    words: *mut u32,
    factors: *mut [f32; 2],
) {
    let Blocks { block, count } = blocks;
    for b in 0..count {
        // SAFETY: by this function's own contract; blocks are of whole eights.
        unsafe {
            let from = from.add(b * block);
            let mut largest = _mm_setzero_si128();
            for at in (0..block).step_by(8) {
                let magnitudes = _mm_loadu_si128(from.add(at).cast());
                let magnitudes = _mm_and_si128(magnitudes, _mm_set1_epi16(0x7fff));
                largest = _mm_max_epu16(largest, magnitudes);
            }
            let (unit, factor) = unit_and_factor(largest_exponent(largest));
            let factor = Avx2::splat(factor);
            let mut sum = Avx2::zero();
            for at in (0..block).step_by(8) {
                let elements = bf16::load::<Avx2>(from.add(at));
                sum = Avx2::add(sum, elements);
                let numbers = _mm256_cvtps_epi32(_mm256_mul_ps(elements, factor));
                // The pairs of a lane's four, and those of the other lane behind them.
                let pairs = _mm256_packs_epi32(numbers, numbers);
                let pairs = _mm256_permute4x64_epi64::<0b1000>(pairs);
                let mut four = [0_u32; 4];
                _mm_storeu_si128(four.as_mut_ptr().cast(), _mm256_castsi256_si128(pairs));
                let to = words.add((b * block + at) / 2 * height);
                for (i, word) in four.into_iter().enumerate() {
                    *to.add(i * height) = word;
                }
            }
            *factors.add(b * height) = [unit, Avx2::sum(sum)];
        }
    }
}
