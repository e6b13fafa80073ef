//! Operands in the order in which a tile reads them.

use std::ops::Range;

use super::{Source, Word};
use crate::isa::{Kernel, Simd, with_float};
use crate::scratch::{Scratch, Shared};
use crate::vector::{narrow, widen};
use crate::{Dtype, View};

/// The rows of a matrix of floats: a plane of a view.
pub(crate) struct Dense<'a> {
    view: View<'a>,
    plane: usize,
}

impl<'a> Dense<'a> {
    /// The first plane.
    pub(crate) fn new(view: &View<'a>) -> Self {
        Self::plane(view, 0)
    }

    pub(crate) fn plane(view: &View<'a>, plane: usize) -> Self {
        Self { view: *view, plane }
    }
}

impl Source for Dense<'_> {
    fn rows(&self) -> usize {
        self.view.layout().rows
    }

    fn cols(&self) -> usize {
        self.view.layout().cols
    }

    #[inline(always)]
    unsafe fn words<S: Simd>(&self, word: Word, row: usize, scratch: *mut u32) -> *const u32 {
        let (from, cols) = (self.view.row(self.plane, row), self.cols());
        match (word, self.view.layout().dtype) {
            (Word::F32, Dtype::F32) => from.cast(),
            (Word::Bf16Pair, Dtype::Bf16) if cols.is_multiple_of(2) => from.cast(),
            (Word::Bf16Pair, Dtype::Bf16) => {
                // SAFETY: by the trait's contract; the last word is made whole.
                unsafe {
                    *scratch.add(cols / 2) = 0;
                    std::ptr::copy_nonoverlapping(from, scratch.cast(), 2 * cols);
                }
                scratch
            }
            (Word::F32, dtype) => {
                // SAFETY: by the trait's contract.
                with_float!(dtype, T => unsafe {
                    widen::<S, T>(from.cast(), scratch.cast(), cols);
                });
                scratch
            }
            (Word::Bf16Pair, dtype) => {
                let mut wide = Scratch::<f32>::take(cols);
                // SAFETY: by the trait's contract; the last word is made whole.
                with_float!(dtype, T => unsafe {
                    widen::<S, T>(from.cast(), wide.as_mut_ptr(), cols);
                    *scratch.add(cols.div_ceil(2) - 1) = 0;
                    narrow::<S, half::bf16>(wide.as_ptr(), scratch.cast(), cols);
                });
                scratch
            }
        }
    }
}

/// Packs rows `range` of `x`, a tile: for each word, that of each row.
pub(super) struct PackX<'a> {
    pub(super) x: &'a Dense<'a>,
    pub(super) word: Word,
    pub(super) words: usize,
    pub(super) range: Range<usize>,
    /// The first word of the first tile.
    pub(super) to: Shared<u32>,
}

impl Kernel for PackX<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (height, words) = (self.range.len(), self.words);
        let stride = words.next_multiple_of(16) + 16;
        let mut scratch = Scratch::<u32>::take(height * stride);
        let mut from = [std::ptr::null::<u32>(); 16];
        // Vectors that a word's column of the tile takes.
        let vectors = height.div_ceil(S::LANES);
        let mut turned = [0_u32; 256];
        // SAFETY: run by `dispatch`; the tile has `height` rows, at most 16, of `words` words. What a
        // vector writes behind the end of a column is overwritten by the next one, or left out.
        unsafe {
            for (i, from) in from.iter_mut().enumerate().take(height) {
                let scratch = scratch.as_mut_ptr().add(i * stride);
                *from = self.x.words::<S>(self.word, self.range.start + i, scratch);
            }
            let last = from[height - 1];
            from[height..vectors * S::LANES].fill(last);
            let to = self.to.get().add(self.range.start * words);
            for first in (0..words).step_by(S::LANES) {
                let count = S::LANES.min(words - first);
                for (v, from) in from.chunks_exact(S::LANES).enumerate().take(vectors) {
                    let turned = turned.as_mut_ptr().add(v * S::LANES);
                    if count < S::LANES {
                        for (i, from) in from.iter().enumerate() {
                            for k in 0..count {
                                *turned.add(k * 16 + i) = from.add(first + k).read_unaligned();
                            }
                        }
                        continue;
                    }
                    let mut block = [std::ptr::null::<u8>(); 16];
                    for (block, from) in block.iter_mut().zip(from) {
                        *block = from.add(first).cast();
                    }
                    S::transpose(&block[..S::LANES], turned, 16);
                }
                for k in 0..count {
                    let (turned, to) = (turned.as_ptr().add(k * 16), to.add((first + k) * height));
                    if (first + k) * height + vectors * S::LANES <= words * height {
                        for v in 0..vectors {
                            let at = v * S::LANES;
                            std::ptr::copy_nonoverlapping(turned.add(at), to.add(at), S::LANES);
                        }
                    } else {
                        std::ptr::copy_nonoverlapping(turned, to, height);
                    }
                }
            }
        }
    }
}

/// Packs rows `range` of `w` as panels of `width` rows. `width` is a multiple of the number of
/// lanes, and `to` leads to room for whole panels.
pub(super) struct PackW<'a, W> {
    pub(super) w: &'a W,
    pub(super) word: Word,
    pub(super) width: usize,
    pub(super) range: Range<usize>,
    pub(super) to: *mut u32,
}

impl<W: Source> Kernel for PackW<'_, W> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: run by `dispatch`; see the fields.
        unsafe { pack_rows::<S, W>(self.w, self.word, self.range, self.width, self.to) }
    }
}

/// Packs rows `range` of `w` as panels of `width` rows: for each word, that of each row. Where
/// rows are missing to a whole panel, the last one stands in.
///
/// # Safety
/// [`Simd`]'s contract; `width` is a multiple of the number of lanes; the rows exist and are not
/// none; there is room for whole panels.
#[inline(always)]
pub(crate) unsafe fn pack_rows<S: Simd, W: Source>(
    w: &W,
    word: Word,
    range: Range<usize>,
    width: usize,
    to: *mut u32,
) {
    let words = word.count(w.cols());
    // Rows apart by a cache line more than their length, which may be a power of two.
    let stride = words.next_multiple_of(16) + 16;
    let mut scratch = Scratch::<u32>::take(S::LANES * stride);
    let mut from = [std::ptr::null::<u32>(); 16];
    for panel in 0..range.len().div_ceil(width) {
        for first in (0..width).step_by(S::LANES) {
            // SAFETY: by this function's own contract.
            unsafe {
                for (i, from) in from.iter_mut().enumerate().take(S::LANES) {
                    let row = (range.start + panel * width + first + i).min(range.end - 1);
                    *from = w.words::<S>(word, row, scratch.as_mut_ptr().add(i * stride));
                }
                let to = to.add(panel * width * words + first);
                transpose::<S>(&from[..S::LANES], words, to, width);
            }
        }
    }
}

/// Writes word `k` of row `i` to `to[k * stride + i]`.
///
/// # Safety
/// [`Simd`]'s contract; there are `LANES` rows of `words` words, and room for the result.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(
    rows: &[*const u32],
    words: usize,
    to: *mut u32,
    stride: usize,
) {
    let mut block = [std::ptr::null::<u8>(); 16];
    let whole = words / S::LANES * S::LANES;
    // SAFETY: by this function's own contract.
    unsafe {
        for k in (0..whole).step_by(S::LANES) {
            for (block, row) in block.iter_mut().zip(rows) {
                *block = row.add(k).cast();
            }
            S::transpose(&block[..S::LANES], to.add(k * stride), stride);
        }
        for (i, row) in rows.iter().enumerate() {
            for k in whole..words {
                *to.add(k * stride + i) = row.add(k).read_unaligned();
            }
        }
    }
}
