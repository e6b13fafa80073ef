//! The product of many rows: `y = x · wᵀ` for prefill, where arithmetic is the limit.
//!
//! All operands are sequences of 32-bit words along K: one float32, or a pair of bfloat16 where
//! the machine has their dot product (twice the rate). So packing, tiling and the loop around
//! them are written once.
//!
//! * A thread takes some panels of `w`: as many rows as a tile is wide, transposed so that their
//!   words of one k lie side by side. This is where weights of any other type, quantized ones
//!   too, are decoded: a row at a time into a scratch row, which the transposition reads. A panel
//!   spans all of K, so a tile's sums stay in registers from the first k to the last, and `y` is
//!   written once, in its own type.
//! * `x` is packed once a call, tile by tile, in the order in which its words are broadcast.
//! * A tile of `x` meets all the thread's panels before the next one is touched: the panels stay
//!   in the second-level cache, the tile in the first.

mod arith;
mod pack;
mod tile;

use std::ops::Range;

use crate::isa::{Kernel, Simd, dispatch};
use crate::scratch::{Scratch, Shared};
use crate::view::Rows;
use crate::{Cpu, Dtype, Isa, View};

#[cfg(target_arch = "x86_64")]
pub(crate) use arith::Bf16Pairs;
pub(crate) use arith::{Arith, F32};
#[cfg(target_arch = "x86_64")]
pub(crate) use pack::transpose;
pub(crate) use pack::{Dense, pack_rows};
#[cfg(target_arch = "x86_64")]
pub(crate) use tile::AHEAD;
pub(crate) use tile::{Tile, by_height, sums};

/// What a word of 32 bits is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// A float32.
    F32,
    /// Two bfloat16, the first one in the lower half.
    Bf16Pair,
}

impl Word {
    /// The kind to use: pairs if both operands can be had in bfloat16 without loss of what the
    /// caller wants kept, and the machine multiplies them.
    pub(crate) fn choose(cpu: &Cpu, both_are_bf16: bool) -> Self {
        if both_are_bf16 && cpu.isa() == Isa::Avx512Bf16 {
            Word::Bf16Pair
        } else {
            Word::F32
        }
    }

    /// Bytes of packed panels that a task may hold: half of the second-level cache of a machine that
    /// multiplies such words, and not more than of one with 512 KB.
    pub(crate) const fn panel_bytes(self) -> usize {
        match self {
            Word::F32 => 256 * 1024,
            Word::Bf16Pair => 512 * 1024,
        }
    }

    /// Words of a row of `cols` elements.
    pub(crate) const fn count(self, cols: usize) -> usize {
        match self {
            Word::F32 => cols,
            Word::Bf16Pair => cols.div_ceil(2),
        }
    }
}

/// Where rows of words come from.
pub(crate) trait Source: Sync {
    /// Rows: N.
    fn rows(&self) -> usize;
    /// Elements of a row: K.
    fn cols(&self) -> usize;

    /// The address of row `row` as words: either where it lies, or `scratch`, filled. If the row
    /// ends within a word, the rest of that is zero.
    ///
    /// # Safety
    /// [`Simd`]'s contract; the row exists; `scratch` has room for the words of a row.
    unsafe fn words<S: Simd>(&self, word: Word, row: usize, scratch: *mut u32) -> *const u32;
}

/// An `x`, packed for products with any weights of as many columns.
pub(crate) struct PackedX {
    word: Word,
    /// Words of a row.
    words: usize,
    rows: usize,
    /// Tiles of rows: for each word, that of each row of the tile.
    tiles: Scratch<u32>,
    /// Rows of a full tile.
    height: usize,
    /// Columns of a tile.
    width: usize,
}

impl PackedX {
    /// Packs `x`, which is not empty.
    pub(crate) fn new(cpu: &Cpu, word: Word, x: &View<'_>) -> Self {
        let (rows, words) = (x.layout().rows, word.count(x.layout().cols));
        let mut tiles = Scratch::<u32>::take(rows * words);
        let (tallest, width) = tile_size(cpu, word);
        let height = tile_height(rows, tallest);
        let to = Shared::new(tiles.as_mut_ptr());
        let x = Dense::new(x);
        cpu.pool().run(rows.div_ceil(height), |tile| {
            let range = tile * height..rows.min((tile + 1) * height);
            let kernel = pack::PackX {
                x: &x,
                word,
                words,
                range,
                to,
            };
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; tiles are disjoint, and there is room for all rows.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
        Self {
            word,
            words,
            rows,
            tiles,
            height,
            width,
        }
    }

    /// `y = x · wᵀ`, `w` having the columns of `x` and some rows, and `y` the sizes that follow.
    pub(crate) fn times<W: Source>(&self, cpu: &Cpu, w: &W, y: Rows<'_>) {
        let Self {
            word,
            words,
            rows,
            height,
            width,
            ..
        } = *self;
        let panels = w.rows().div_ceil(width);
        let per_task = panels_of_task(cpu, panels, word.panel_bytes() / (4 * words * width));
        let product = Product {
            word,
            words,
            rows,
            height,
            x: self.tiles.as_slice(),
            y,
        };
        cpu.pool().run(panels.div_ceil(per_task), |task| {
            let begin = task * per_task * width;
            let range = begin..w.rows().min(begin + per_task * width);
            let len = range.len().div_ceil(width) * width * words;
            let mut panels = Scratch::<u32>::take(len);
            let kernel = pack::PackW {
                w,
                word,
                width,
                range: range.clone(),
                to: panels.as_mut_ptr(),
            };
            // SAFETY: as in `new`; columns of `y` belong to one task.
            unsafe {
                dispatch(cpu.isa(), kernel);
                product.columns(cpu.isa(), panels.as_slice(), range);
            }
        });
    }
}

/// How many of the panels a task takes, if so many fit where it holds them.
pub(crate) fn panels_of_task(cpu: &Cpu, panels: usize, fit: usize) -> usize {
    // Enough tasks that the last ones keep no thread waiting long.
    let share = panels.div_ceil(4 * cpu.pool().threads());
    fit.min(share).max(1)
}

/// Rows of a tile: of about one height, since thirteen are better seven and six than twelve and one.
pub(crate) fn tile_height(rows: usize, tallest: usize) -> usize {
    rows.div_ceil(rows.div_ceil(tallest))
}

/// Rows and columns of a full tile.
fn tile_size(cpu: &Cpu, word: Word) -> (usize, usize) {
    struct Size;
    impl Kernel for Size {
        type Output = (usize, usize);
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> (usize, usize) {
            (F32::<S>::HEIGHT, F32::<S>::VECTORS * S::LANES)
        }
    }
    match word {
        #[cfg(target_arch = "x86_64")]
        Word::Bf16Pair => (Bf16Pairs::HEIGHT, Bf16Pairs::VECTORS * 16),
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
        _ => unsafe { dispatch(cpu.isa(), Size) },
    }
}

/// The multiplication of packed operands, for threads to share.
struct Product<'a> {
    word: Word,
    /// Words of a row.
    words: usize,
    /// Rows of `x`, and of a tile of it.
    rows: usize,
    height: usize,
    x: &'a [u32],
    y: Rows<'a>,
}

/// Columns `range` of the product; `w` is their panels.
struct Columns<'a>(&'a Product<'a>, &'a [u32], Range<usize>);

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: as `Product::columns`.
        unsafe { self.0.tiles::<F32<S>>(self.1, self.2) }
    }
}

impl Product<'_> {
    /// Computes columns `range` of `y` with their packed panels.
    ///
    /// # Safety
    /// The machine has `isa`; no other thread has these columns of `y`.
    unsafe fn columns(&self, isa: Isa, w: &[u32], range: Range<usize>) {
        /// # Safety
        /// As [`Product::columns`], on a machine with AVX-512 and its bfloat16 dot product.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        unsafe fn pairs(product: &Product<'_>, w: &[u32], range: Range<usize>) {
            // SAFETY: by this function's own contract.
            unsafe { product.tiles::<Bf16Pairs>(w, range) }
        }
        // SAFETY: by this function's own contract; pairs are chosen for `Avx512Bf16` only.
        unsafe {
            match self.word {
                #[cfg(target_arch = "x86_64")]
                Word::Bf16Pair => pairs(self, w, range),
                _ => dispatch(isa, Columns(self, w, range)),
            }
        }
    }

    /// # Safety
    /// As [`Product::columns`], with the instruction set of `A`, which matches `self.word`.
    #[inline(always)]
    unsafe fn tiles<A: Arith>(&self, w: &[u32], range: Range<usize>) {
        let width = A::VECTORS * A::Simd::LANES;
        for first in (0..self.rows).step_by(self.height) {
            let height = self.height.min(self.rows - first);
            let x = self.x[first * self.words..][..height * self.words].as_ptr();
            for (panel, w) in w.chunks_exact(self.words * width).enumerate() {
                let begin = range.start + panel * width;
                let count = width.min(range.end - begin);
                // SAFETY: by this function's own contract; a panel and a tile have `words` steps.
                unsafe {
                    let tile = Tile {
                        y: self.y,
                        row: first,
                        col: begin,
                        count,
                    };
                    tile.product::<A>(height, self.words, x, w.as_ptr());
                }
            }
        }
    }
}

/// Whether a view's elements are bfloat16.
pub(crate) fn is_bf16(x: &View<'_>) -> bool {
    x.layout().dtype == Dtype::Bf16
}
