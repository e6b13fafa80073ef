//! The innermost product.

use std::arch::x86_64::*;
use std::ops::Range;

use super::weights::Panels;
use super::x::PackedX;
use crate::gemm::{AHEAD, Tile, by_height};
use crate::isa::{Avx2, Simd};
use crate::view::Rows;

/// Rows of a full tile: such that its sums, two vectors of weights, and two products fit in the registers.
pub(super) const HEIGHT: usize = 6;

/// Columns of a tile, rows of a panel.
pub(super) const WIDTH: usize = 2 * Avx2::LANES;

/// A product of packed operands, for threads to share.
pub(super) struct Product<'a> {
    pub(super) x: &'a PackedX,
    pub(super) y: Rows<'a>,
}

impl Product<'_> {
    /// Computes columns `range` of `y`, whose weights are `panels`.
    ///
    /// # Safety
    /// The machine has AVX2; no other thread has these columns of `y`, which exist.
    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    pub(super) unsafe fn columns(&self, panels: &Panels, range: Range<usize>) {
        for row in (0..self.x.rows).step_by(self.x.height) {
            let height = self.x.height.min(self.x.rows - row);
            for (panel, col) in range.clone().step_by(WIDTH).enumerate() {
                let tile = Tile {
                    y: self.y,
                    row,
                    col,
                    count: WIDTH.min(range.end - col),
                };
                by_height!(height, HEIGHT, H => {
                    // SAFETY: by this function's own contract.
                    unsafe {
                        let sums = self.sums::<H>(panels, panel, row);
                        tile.store::<Avx2>(&sums);
                    }
                });
            }
        }
    }

    /// The sums of `H` rows from `row` on with a panel.
    ///
    /// # Safety
    /// As [`Product::columns`]; there are so many rows in the tile.
    #[inline(always)]
    unsafe fn sums<const H: usize>(
        &self,
        panels: &Panels,
        panel: usize,
        row: usize,
    ) -> [[__m256; 2]; H] {
        let blocks = self.x.blocks;
        let (mut x, mut of_x) = self.x.tile(row);
        let (mut w, mut of_w) = panels.panel(panel);
        // SAFETY: by this function's own contract.
        unsafe {
            let mut sums = [[Avx2::zero(); 2]; H];
            for _ in 0..blocks.count {
                let integers = block_sums::<H>(blocks.block_words(), x, w);
                for i in 0..H {
                    let [unit, sum] = *of_x.add(i);
                    let (unit, sum) = (Avx2::splat(unit), Avx2::splat(sum));
                    for v in 0..2 {
                        let scale = Avx2::load_f32(of_w.add(v * Avx2::LANES));
                        let bias = Avx2::load_f32(of_w.add(WIDTH + v * Avx2::LANES));
                        let integers = _mm256_cvtepi32_ps(integers[i][v]);
                        let with_bias = Avx2::mul_add(bias, sum, sums[i][v]);
                        sums[i][v] = Avx2::mul_add(integers, Avx2::mul(scale, unit), with_bias);
                    }
                }
                x = x.add(H * blocks.block_words());
                w = w.add(WIDTH * blocks.block_words());
                of_x = of_x.add(H);
                of_w = of_w.add(2 * WIDTH);
            }
            sums
        }
    }
}

/// The sums of products of a block of words. Codes are below 2^8 and the integers of `x` at most 2^15, and of a
/// block's 64 elements two meet in a lane at a time: the sums are below 2^29.
///
/// # Safety
/// The machine has AVX2; `x` leads to `H` times so many words, and `w` to [`WIDTH`] times so many.
#[inline(always)]
unsafe fn block_sums<const H: usize>(
    words: usize,
    x: *const u32,
    w: *const u32,
) -> [[__m256i; 2]; H] {
    let (mut x, mut w) = (x, w);
    // SAFETY: by this function's own contract.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; H];
        for _ in 0..words {
            Avx2::prefetch(w.wrapping_add(AHEAD).cast());
            let left = Avx2::load_words(w.cast());
            let right = Avx2::load_words(w.add(Avx2::LANES).cast());
            for i in 0..H {
                let word = _mm256_set1_epi32(*x.add(i) as i32);
                sums[i][0] = _mm256_add_epi32(sums[i][0], _mm256_madd_epi16(word, left));
                sums[i][1] = _mm256_add_epi32(sums[i][1], _mm256_madd_epi16(word, right));
            }
            x = x.add(H);
            w = w.add(WIDTH);
        }
        sums
    }
}
