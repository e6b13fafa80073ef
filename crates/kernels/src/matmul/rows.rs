//! Few rows of `x`: `w` is read once, at the speed of memory.

use std::ops::Range;

use crate::gemm::Word;
use crate::isa::{Kernel, Simd, dispatch, with_float};
use crate::scratch::Scratch;
use crate::vector::{store_results, widen};
use crate::view::Rows;
use crate::{Cpu, Isa, View};

use super::stream::{Stream, Widen};

/// Bytes of weights that a range of rows has at least, and that are kept in cache while further
/// rows of `x` meet them.
const GRAIN_BYTES: usize = 32 * 1024;

/// How far ahead of its use a line of weights is asked for, at least. A load takes some 500 cycles
/// to come from memory, and at full bandwidth a line arrives every 5 to 10 of them.
const PREFETCH: usize = 8 * 1024;

/// Results that are collected before they are converted and stored.
const BATCH: usize = 32;

/// Elements that rows of `x` are padded to a multiple of: the widest step of any [`Stream`].
const PAD: usize = 32;

/// `y = x · wᵀ`; the sizes fit, and nothing is empty.
pub(super) fn product(cpu: &Cpu, word: Word, x: &View<'_>, w: &View<'_>, y: Rows<'_>) {
    let (rows, cols) = (x.layout().rows, x.layout().cols);
    let stride = cols.next_multiple_of(PAD);
    let mut padded = Scratch::<f32>::take(rows * stride);
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    unsafe {
        dispatch(
            cpu.isa(),
            Pad {
                x,
                word,
                stride,
                to: padded.as_mut_ptr(),
            },
        )
    };
    let product = Product {
        x: padded.as_ptr(),
        rows,
        cols,
        stride,
        w,
        y,
    };
    cpu.pool()
        .run_ranges(w.layout().rows, product.grain(), |range| {
            // SAFETY: as above; ranges are disjoint and within the rows of `w`.
            unsafe { product.range(cpu.isa(), word, range) };
        });
}

/// Copies `x` to rows of `stride` elements (float32, or bfloat16 for pairs) that end in zeros.
struct Pad<'a> {
    x: &'a View<'a>,
    word: Word,
    stride: usize,
    to: *mut f32,
}

impl Kernel for Pad<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let cols = self.x.layout().cols;
        for row in 0..self.x.layout().rows {
            let from = self.x.row(0, row);
            // SAFETY: run by `dispatch`; there is room for `stride` floats a row.
            unsafe {
                match self.word {
                    Word::Bf16Pair => {
                        let to = self.to.cast::<half::bf16>().add(row * self.stride);
                        to.write_bytes(0, self.stride);
                        std::ptr::copy_nonoverlapping(from, to.cast(), 2 * cols);
                    }
                    Word::F32 => with_float!(self.x.layout().dtype, T => {
                        let to = self.to.add(row * self.stride);
                        to.write_bytes(0, self.stride);
                        widen::<S, T>(from.cast(), to, cols);
                    }),
                }
            }
        }
    }
}

/// A product, for threads to share.
struct Product<'a> {
    /// Rows of `stride` float32, or of half as many bytes of bfloat16.
    x: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
    w: &'a View<'a>,
    y: Rows<'a>,
}

// SAFETY: `x` and `w` are only read; each row of `w`, and with it each column of `y`, belongs to
// one thread.
unsafe impl Sync for Product<'_> {}

/// Columns of a product.
struct Columns<'a>(&'a Product<'a>, Range<usize>);

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        with_float!(self.0.w.layout().dtype, T => {
            // SAFETY: as `Product::range`.
            unsafe { self.0.blocks::<Widen<S, T>>(self.1) }
        });
    }
}

impl Product<'_> {
    /// Rows of the weights that a thread takes at least.
    fn grain(&self) -> usize {
        let row_bytes = self.w.layout().row_stride * self.w.layout().dtype.size();
        (GRAIN_BYTES / row_bytes.max(1)).next_multiple_of(8).max(8)
    }

    /// # Safety
    /// The machine has `isa`; no other thread has columns `range` of `y`, which exist.
    unsafe fn range(&self, isa: Isa, word: Word, range: Range<usize>) {
        /// # Safety
        /// As [`Product::range`], on a machine with AVX-512 and its bfloat16 dot product.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        unsafe fn pairs(product: &Product<'_>, range: Range<usize>) {
            // SAFETY: by this function's own contract.
            unsafe { product.blocks::<super::stream::Pairs>(range) }
        }
        // SAFETY: by this function's own contract; pairs are chosen for `Avx512Bf16` only.
        unsafe {
            match word {
                #[cfg(target_arch = "x86_64")]
                Word::Bf16Pair => pairs(self, range),
                _ => dispatch(isa, Columns(self, range)),
            }
        }
    }

    /// Block after block of weights, each of which stays in cache until all rows of `x` met it.
    ///
    /// # Safety
    /// [`Simd`]'s contract for `F`, whose elements are those of `w`; else as [`Product::range`].
    #[inline(always)]
    unsafe fn blocks<F: Stream>(&self, range: Range<usize>) {
        let grain = self.grain();
        for first in range.clone().step_by(grain) {
            let block = first..range.end.min(first + grain);
            let mut m = 0;
            while m < self.rows {
                // SAFETY: by this function's own contract; so many rows of `x` are left.
                unsafe {
                    m += match self.rows - m {
                        4.. => self.some::<F, 2, 4>(m, block.clone(), range.end),
                        2.. => self.some::<F, 4, 2>(m, block.clone(), range.end),
                        _ => self.some::<F, 4, 1>(m, block.clone(), range.end),
                    };
                }
            }
        }
    }

    /// `y[m..m + M, range]`, `R` rows of the weights at a time. Gives back `M`. The thread will go
    /// on to row `end` of the weights.
    ///
    /// # Safety
    /// As [`Product::blocks`].
    #[inline(always)]
    unsafe fn some<F: Stream, const R: usize, const M: usize>(
        &self,
        m: usize,
        range: Range<usize>,
        end: usize,
    ) -> usize {
        let row_bytes = (self.w.layout().row_stride * size_of::<F::Weight>()).max(1);
        let ahead = PREFETCH.div_ceil(row_bytes).next_multiple_of(R);
        let mut results = [[0.0; BATCH]; M];
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
                    self.sums::<F, R, M>(m, first + i, ahead, &mut results, i);
                }
                for i in whole..count {
                    self.sums::<F, 1, M>(m, first + i, 0, &mut results, i);
                }
                for (i, results) in results.iter().enumerate() {
                    store_results::<F::Simd>(self.y, m + i, first, &results[..count]);
                }
            }
        }
        M
    }

    /// The products of rows `row..row + R` of the weights and `m..m + M` of `x`, which become
    /// `results[..][at..at + R]`. Weights that lie `ahead` rows further are asked for.
    ///
    /// # Safety
    /// As [`Product::blocks`]; the rows exist.
    #[inline(always)]
    unsafe fn sums<F: Stream, const R: usize, const M: usize>(
        &self,
        m: usize,
        row: usize,
        ahead: usize,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) {
        // SAFETY: by this function's own contract; rows of `x` are padded to whole steps.
        unsafe {
            let size = size_of::<F::Weight>();
            let row_bytes = self.w.layout().row_stride * size;
            let w = self.w.row(0, row);
            // The rows usually lie end to end: asked for from the first line of the first to the
            // last of the last, instead of in the order of use, they come faster.
            let far = w.wrapping_add(ahead * row_bytes);
            let x = self.x.cast::<u8>().add(m * self.stride * F::X_SIZE);
            let mut sums = [[F::Simd::zero(); M]; R];
            let whole = self.cols / F::STEP * F::STEP;
            for k in (0..whole).step_by(F::STEP) {
                for r in 0..R {
                    let w = w.add(r * row_bytes + k * size);
                    F::Simd::prefetch(far.wrapping_add((k * R + r * F::STEP) * size));
                    let w = F::load(w.cast());
                    for i in 0..M {
                        let x = x.add((i * self.stride + k) * F::X_SIZE);
                        sums[r][i] = F::add_products(w, x, sums[r][i]);
                    }
                }
            }
            if whole < self.cols {
                for r in 0..R {
                    let w = w.add(r * row_bytes + whole * size);
                    let w = F::load_first(w.cast(), self.cols - whole);
                    for i in 0..M {
                        let x = x.add((i * self.stride + whole) * F::X_SIZE);
                        sums[r][i] = F::add_products(w, x, sums[r][i]);
                    }
                }
            }
            for i in 0..M {
                if R == 4 {
                    let four = [sums[0][i], sums[1 % R][i], sums[2 % R][i], sums[3 % R][i]];
                    results[i][at..at + 4].copy_from_slice(&F::Simd::sum_four(four));
                } else {
                    for r in 0..R {
                        results[i][at + r] = F::Simd::sum(sums[r][i]);
                    }
                }
            }
        }
    }
}
