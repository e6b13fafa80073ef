//! Many rows of bfloat16 `x` by weights that are integers: a prefill, in products of 16-bit integers.
//!
//! Arithmetic is its limit, and AVX2 multiplies twice as many 16-bit integers in a cycle as float32, AVX-512 with VNNI
//! twice as many again ([`lanes`]). It is
//! the product of [`crate::gemm`], tiles of `x` by panels of weights, but that a word is two integers, and
//! that the sums of a block of words, which are exact, become float32 before the next block:
//!
//! * Weights are `code * scale + bias`. The integers are twice what the codes are apart from their mean,
//!   which may be half of one; that goes into scales and biases.
//! * The elements of `x` of a block share a power of two, as in a decode step, with as many more of them as
//!   have one scale, and at most 64. What an element loses meets a code that is as often above the mean as below.
//! * A bias meets the sum of the block's elements, in float32.

mod lanes;
mod tile;
mod weights;
mod x;

use super::has_vnni;
use super::scales::ScaleFormat;
use crate::gemm::{panels_of_task, tile_height};
use crate::quantized_matmul::{Format, Part};
use crate::scratch::Scratch;
use crate::{Cpu, View};

use lanes::{Eight, Lanes, Sixteen};
use tile::Product;
use weights::Panels;
use x::PackedX;

/// Most elements that share a power of two.
const BLOCK: usize = 64;

/// How rows are cut into blocks and words.
#[derive(Clone, Copy)]
struct Blocks {
    /// Elements of a block: a group, or a part of one.
    block: usize,
    /// Blocks of a row.
    count: usize,
}

impl Blocks {
    fn new(format: Format, cols: usize) -> Self {
        let block = format.group_size().min(BLOCK);
        let count = cols / block;
        Self { block, count }
    }

    /// Words of a block: pairs of integers.
    const fn block_words(self) -> usize {
        self.block / 2
    }

    /// Words of a row.
    const fn words(self) -> usize {
        self.count * self.block_words()
    }
}

/// `y = x · wᵀ` for each part, all of one kind, which is not mxfp8, with scales `S`; `x` is bfloat16, and the
/// sizes fit.
pub(super) fn products<S: ScaleFormat>(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    match has_vnni(cpu) {
        true => products_in::<Sixteen, S>(cpu, x, parts),
        false => products_in::<Eight, S>(cpu, x, parts),
    }
}

fn products_in<L: Lanes, S: ScaleFormat>(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let (format, cols, _) = parts[0].w.kind();
    let blocks = Blocks::new(format, cols);
    let rows = x.layout().rows;
    let x = PackedX::new(cpu, x, blocks, tile_height(rows, L::HEIGHT));
    for part in parts {
        times::<L, S>(cpu, &x, part);
    }
}

/// The product with one part.
fn times<L: Lanes, S: ScaleFormat>(cpu: &Cpu, x: &PackedX, part: &Part<'_>) {
    let (w, blocks) = (&part.w, x.blocks);
    let panels = w.rows().div_ceil(L::WIDTH);
    // Words and, for each block, scales and biases.
    let (words, factors) = (L::WIDTH * blocks.words(), 2 * L::WIDTH * blocks.count);
    let per_task = panels_of_task(cpu, panels, L::PANEL_BYTES / (4 * (words + factors)));
    let product = Product { x, y: part.y };
    cpu.pool().run(panels.div_ceil(per_task), |task| {
        let begin = task * per_task * L::WIDTH;
        let range = begin..w.rows().min(begin + per_task * L::WIDTH);
        let count = range.len().div_ceil(L::WIDTH);
        let mut packed = Scratch::<u32>::take(count * words);
        let mut scales = Scratch::<f32>::take(count * factors);
        let panels = Panels {
            blocks,
            words: packed.as_mut_ptr(),
            factors: scales.as_mut_ptr(),
        };
        // SAFETY: the machine has the instruction set: a `Cpu` that names one with AVX2 could be made, or it was asked
        // for; there is room for so many panels, and columns of `y` belong to one task.
        unsafe {
            L::pack::<S>(&panels, w, range.clone());
            L::columns(&product, &panels, range);
        }
    });
}
