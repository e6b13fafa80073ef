//! The innermost product.

use std::ops::Range;

use super::lanes::Lanes;
use super::weights::Panels;
use super::x::PackedX;
use crate::gemm::{AHEAD, Tile, by_height};
use crate::isa::Simd;
use crate::view::Rows;

/// A product of packed operands, for threads to share.
pub(super) struct Product<'a> {
    pub(super) x: &'a PackedX,
    pub(super) y: Rows<'a>,
}

impl Product<'_> {
    /// Computes columns `range` of `y`, whose weights are `panels`.
    ///
    /// # Safety
    /// The machine has the instruction set; no other thread has these columns of `y`, which exist.
    #[inline(always)]
    pub(super) unsafe fn columns<L: Lanes>(&self, panels: &Panels, range: Range<usize>) {
        for row in (0..self.x.rows).step_by(self.x.height) {
            let height = self.x.height.min(self.x.rows - row);
            for (panel, col) in range.clone().step_by(L::WIDTH).enumerate() {
                let tile = Tile {
                    y: self.y,
                    row,
                    col,
                    count: L::WIDTH.min(range.end - col),
                };
                by_height!(height, L::HEIGHT, H => {
                    // SAFETY: by this function's own contract.
                    unsafe {
                        let sums = self.sums::<L, H>(panels, panel, row);
                        tile.store::<L::Simd>(&sums);
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
    unsafe fn sums<L: Lanes, const H: usize>(
        &self,
        panels: &Panels,
        panel: usize,
        row: usize,
    ) -> [[<L::Simd as Simd>::V; 2]; H] {
        let blocks = self.x.blocks;
        let (mut x, mut of_x) = self.x.tile(row);
        let (mut w, mut of_w) = panels.panel::<L>(panel);
        // SAFETY: by this function's own contract.
        unsafe {
            let mut sums = [[L::Simd::zero(); 2]; H];
            for _ in 0..blocks.count {
                let integers = block_sums::<L, H>(blocks.block_words(), x, w);
                for i in 0..H {
                    let [unit, sum] = *of_x.add(i);
                    let (unit, sum) = (L::Simd::splat(unit), L::Simd::splat(sum));
                    for v in 0..2 {
                        let scale = L::Simd::load_f32(of_w.add(v * L::Simd::LANES));
                        let bias = L::Simd::load_f32(of_w.add(L::WIDTH + v * L::Simd::LANES));
                        let integers = L::floats(integers[i][v]);
                        let with_bias = L::Simd::mul_add(bias, sum, sums[i][v]);
                        let scale = L::Simd::mul(scale, unit);
                        sums[i][v] = L::Simd::mul_add(integers, scale, with_bias);
                    }
                }
                x = x.add(H * blocks.block_words());
                w = w.add(L::WIDTH * blocks.block_words());
                of_x = of_x.add(H);
                of_w = of_w.add(2 * L::WIDTH);
            }
            sums
        }
    }
}

/// The sums of products of a block of words. Codes are below 2^8 and the integers of `x` at most 2^15, and of a
/// block's 64 elements two meet in a lane at a time: the sums are below 2^29.
///
/// # Safety
/// The machine has the instruction set; `x` leads to `H` times so many words, and `w` to as many as a panel is wide
/// times so many.
#[inline(always)]
unsafe fn block_sums<L: Lanes, const H: usize>(
    words: usize,
    x: *const u32,
    w: *const u32,
) -> [[<L::Simd as Simd>::W; 2]; H] {
    let lanes = L::Simd::LANES;
    let (mut x, mut w) = (x, w);
    // SAFETY: by this function's own contract.
    unsafe {
        let mut sums = [[L::zero(); 2]; H];
        for _ in 0..words {
            L::Simd::prefetch(w.wrapping_add(AHEAD).cast());
            if lanes == 16 {
                // Half as many are a line together.
                L::Simd::prefetch(w.wrapping_add(AHEAD + lanes).cast());
            }
            let left = L::Simd::load_words(w.cast());
            let right = L::Simd::load_words(w.add(lanes).cast());
            for i in 0..H {
                sums[i][0] = L::add_products(sums[i][0], x.add(i), left);
                sums[i][1] = L::add_products(sums[i][1], x.add(i), right);
            }
            x = x.add(H);
            w = w.add(L::WIDTH);
        }
        sums
    }
}
