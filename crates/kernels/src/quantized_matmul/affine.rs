//! Few rows of `x` by affine 4- or 8-bit weights, in float32 on any instruction set.
//!
//! A vector of words is unpacked field by field: a mask, a conversion to float32, a
//! multiplication. Field `i` of every word meets element `i` of every `32 / BITS`, so `x` is put
//! into this order once a call. A masked field is not shifted down: it is `2^shift` times its code,
//! exactly, and what makes up for that is in `x`.

// Loops over registers are by index: iterators in their place are not always unrolled, and then
// the registers become memory.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::{Mode, Quantized, Scales};
use crate::isa::{Kernel, Simd, dispatch, with_float};
use crate::scratch::{Scratch, Shared};
use crate::vector::{dot, load_row, store_results, widen};
use crate::view::Rows;
use crate::{Cpu, Dtype, View};

/// Bytes of weights that a range of rows has at least, and that are kept in cache while further
/// rows of `x` meet them.
const GRAIN_BYTES: usize = 32 * 1024;

/// How far ahead of its use a line of weights is asked for, at least.
const PREFETCH: usize = 8 * 1024;

/// Results that are collected before they are converted and stored.
const BATCH: usize = 32;

/// Whether [`product`] serves this format.
pub(super) fn serves(w: &Quantized<'_>) -> bool {
    w.format().mode() == Mode::Affine && matches!(w.format().bits(), 4 | 8)
}

/// `y = x · wᵀ`; [`serves`] said yes, and the sizes fit.
pub(super) fn product(cpu: &Cpu, x: &View<'_>, w: &Quantized<'_>, y: Rows<'_>) {
    let Scales::Affine {
        scales,
        biases,
        dtype,
    } = w.scales
    else {
        return;
    };
    let rows = x.layout().rows;
    // Up to the longest vector's elements, and the sums of groups up to whole vectors.
    let stride = w.cols().next_multiple_of(16 * 8);
    let sums_stride = w.groups().next_multiple_of(16);
    let mut values = Scratch::<f32>::take(rows * stride);
    let mut sums = Scratch::<f32>::take(rows * sums_stride);
    let product = Product {
        w,
        scales,
        biases,
        dtype,
        rows,
        values: Shared::new(values.as_mut_ptr()),
        stride,
        sums: Shared::new(sums.as_mut_ptr()),
        sums_stride,
        y,
    };
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
    // ranges are disjoint and within the rows of `w`.
    unsafe {
        dispatch(
            cpu.isa(),
            Arrange {
                product: &product,
                x,
            },
        );
        cpu.pool().run_ranges(w.rows(), product.grain(), |range| {
            dispatch(
                cpu.isa(),
                Columns {
                    product: &product,
                    range,
                },
            );
        });
    }
}

/// A product, for threads to share.
struct Product<'a> {
    w: &'a Quantized<'a>,
    scales: &'a [u8],
    biases: &'a [u8],
    dtype: Dtype,
    /// Rows of `x`.
    rows: usize,
    /// Rows of `x`, arranged.
    values: Shared<f32>,
    stride: usize,
    /// For each row of `x`, its sums over groups.
    sums: Shared<f32>,
    sums_stride: usize,
    y: Rows<'a>,
}

/// Puts `x` in order: for each vector of words, for each field, the elements of all words.
struct Arrange<'a> {
    product: &'a Product<'a>,
    x: &'a View<'a>,
}

impl Kernel for Arrange<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Product {
            w,
            stride,
            sums_stride,
            ..
        } = *self.product;
        let (bits, group) = (w.format().bits(), w.format().group_size());
        let fields = 32 / bits;
        let mut row = Scratch::<f32>::take(stride);
        for m in 0..self.product.rows {
            // SAFETY: run by `dispatch`; `product` made room.
            unsafe {
                let values = self.product.values.get().add(m * stride);
                let sums = self.product.sums.get().add(m * sums_stride);
                let x = row.as_mut_ptr();
                x.write_bytes(0, stride);
                load_row::<S>(self.x, 0, m, x);
                sums.write_bytes(0, sums_stride);
                for g in 0..w.groups() {
                    let group = std::slice::from_raw_parts(x.add(g * group), group);
                    *sums.add(g) = group.iter().sum();
                }
                for first in (0..stride).step_by(S::LANES * fields) {
                    for field in 0..fields {
                        // The highest field is shifted down, the others are only masked.
                        let shift = if field + 1 < fields { field * bits } else { 0 };
                        let factor = f32::from_bits((127 - shift as u32) << 23);
                        for lane in 0..S::LANES {
                            let value = *x.add(first + lane * fields + field);
                            *values.add(first + field * S::LANES + lane) = value * factor;
                        }
                    }
                }
            }
        }
    }
}

/// Columns `range` of a product.
struct Columns<'a> {
    product: &'a Product<'a>,
    range: Range<usize>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let group = self.product.w.format().group_size();
        // SAFETY: run by `dispatch`; the number of groups that share a vector is matched.
        unsafe {
            match self.product.w.format().bits() {
                4 => match S::LANES * 8 / group {
                    4 => self.blocks::<S, 4, 4>(),
                    2 => self.blocks::<S, 4, 2>(),
                    _ => self.blocks::<S, 4, 1>(),
                },
                _ => match S::LANES * 4 / group {
                    2 => self.blocks::<S, 8, 2>(),
                    _ => self.blocks::<S, 8, 1>(),
                },
            }
        }
    }
}

impl Product<'_> {
    /// Rows of the weights that a thread takes at least.
    fn grain(&self) -> usize {
        (GRAIN_BYTES / self.w.row_bytes())
            .next_multiple_of(4)
            .max(4)
    }
}

impl Columns<'_> {
    /// Block after block of weights, each of which stays in cache until all rows of `x` met it.
    ///
    /// # Safety
    /// [`Simd`]'s contract. Codes have `BITS` bits, and `GROUPS` is how many groups a vector of
    /// words spans, at least one. The range is this thread's.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const BITS: u32, const GROUPS: usize>(&self) {
        let (grain, rows) = (self.product.grain(), self.product.rows);
        let padded = self.product.w.groups().next_multiple_of(16);
        let mut scales = Scratch::<f32>::take(4 * padded);
        let scales = scales.as_mut_ptr();
        for first in self.range.clone().step_by(grain) {
            let block = first..self.range.end.min(first + grain);
            let mut m = 0;
            while m < rows {
                // SAFETY: by this function's own contract; so many rows of `x` are left.
                unsafe {
                    m += match rows - m {
                        4.. => self.some::<S, BITS, GROUPS, 1, 4>(m, block.clone(), scales),
                        2.. => self.some::<S, BITS, GROUPS, 2, 2>(m, block.clone(), scales),
                        _ => self.some::<S, BITS, GROUPS, 2, 1>(m, block.clone(), scales),
                    };
                }
            }
        }
    }

    /// `y[m..m + M, block]`, `R` rows of weights at a time, at most two. Gives back `M`. `scales`
    /// has room for the scales and biases of two rows.
    ///
    /// # Safety
    /// As [`Columns::blocks`].
    #[inline(always)]
    unsafe fn some<S, const BITS: u32, const GROUPS: usize, const R: usize, const M: usize>(
        &self,
        m: usize,
        block: Range<usize>,
        scales: *mut f32,
    ) -> usize
    where
        S: Simd,
    {
        let mut results = [[0.0; BATCH]; M];
        for first in block.clone().step_by(BATCH) {
            let count = BATCH.min(block.end - first);
            let whole = count / R * R;
            // SAFETY: by this function's own contract.
            unsafe {
                for i in (0..whole).step_by(R) {
                    self.sums::<S, BITS, GROUPS, R, M>(m, first + i, scales, &mut results, i);
                }
                for i in whole..count {
                    self.sums::<S, BITS, GROUPS, 1, M>(m, first + i, scales, &mut results, i);
                }
                for (i, results) in results.iter().enumerate() {
                    store_results::<S>(self.product.y, m + i, first, &results[..count]);
                }
            }
        }
        M
    }

    /// The products of rows `row..row + R` of the weights and `m..m + M` of `x`, which become
    /// `results[..][at..at + R]`.
    ///
    /// # Safety
    /// As [`Columns::blocks`].
    #[inline(always)]
    unsafe fn sums<S, const BITS: u32, const GROUPS: usize, const R: usize, const M: usize>(
        &self,
        m: usize,
        row: usize,
        scales: *mut f32,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) where
        S: Simd,
    {
        let Product {
            w,
            stride,
            sums_stride,
            ..
        } = *self.product;
        let row_bytes = w.row_bytes();
        let groups = w.groups();
        let vector_bytes = 4 * S::LANES;
        let vector_elements = S::LANES * 32 / BITS as usize;
        let padded = groups.next_multiple_of(16);
        let biases = scales.wrapping_add(2 * padded);
        let ahead = PREFETCH.div_ceil(row_bytes).next_multiple_of(R);
        let ahead = if row + ahead + R <= self.range.end {
            ahead
        } else {
            0
        };
        // SAFETY: by this function's own contract; all loads are within a row, or within
        // arranged rows and scales, which end in zeros.
        unsafe {
            let mut acc = [[S::zero(); M]; R];
            for r in 0..R {
                self.load_scales::<S>(row + r, scales.add(r * padded), biases.add(r * padded));
                S::prefetch(self.scales_at(row + r + ahead));
                S::prefetch(self.biases_at(row + r + ahead));
            }
            let codes = w.packed.as_ptr().add(row * row_bytes);
            let far = codes.wrapping_add(ahead * row_bytes);
            let x = self.product.values.get().add(m * stride).cast_const();
            for byte in (0..row_bytes).step_by(vector_bytes) {
                let mut words = [S::load_words([0_u8; 64].as_ptr()); R];
                for r in 0..R {
                    let at = codes.add(r * row_bytes + byte);
                    S::prefetch(far.wrapping_add(byte * R + r * vector_bytes));
                    if byte + vector_bytes <= row_bytes {
                        words[r] = S::load_words(at);
                    } else {
                        let mut last = [0_u8; 64];
                        last[..row_bytes - byte]
                            .copy_from_slice(std::slice::from_raw_parts(at, row_bytes - byte));
                        words[r] = S::load_words(last.as_ptr());
                    }
                }
                let first = byte / vector_bytes * vector_elements;
                let mut sums = [[S::zero(); M]; R];
                /// Multiplies a field of all words, unless words have fewer.
                macro_rules! field {
                    ($($field:literal)*) => {$(
                        if $field < 32 / BITS as usize {
                            let mut codes = [S::zero(); R];
                            for r in 0..R {
                                codes[r] = field::<S, $field, BITS>(words[r]);
                            }
                            for i in 0..M {
                                let x = x.add(i * stride + first + $field * S::LANES);
                                let x = S::load_f32(x);
                                for r in 0..R {
                                    sums[r][i] = S::mul_add(codes[r], x, sums[r][i]);
                                }
                            }
                        }
                    )*};
                }
                field!(0 1 2 3 4 5 6 7);
                let group = first / w.format().group_size();
                for r in 0..R {
                    let scale = S::spread::<GROUPS>(scales.add(r * padded + group));
                    for i in 0..M {
                        acc[r][i] = S::mul_add(sums[r][i], scale, acc[r][i]);
                    }
                }
            }
            for r in 0..R {
                for i in 0..M {
                    let x_sums = self.product.sums.get().add((m + i) * sums_stride);
                    let biases = dot::<S>(biases.add(r * padded), x_sums, padded);
                    results[i][at + r] = S::sum(acc[r][i]) + biases;
                }
            }
        }
    }

    /// The scales and biases of a row as float32, zero beyond the last group.
    ///
    /// # Safety
    /// [`Simd`]'s contract; the row exists; there is room for whole vectors of sixteen.
    #[inline(always)]
    unsafe fn load_scales<S: Simd>(&self, row: usize, scales: *mut f32, biases: *mut f32) {
        let groups = self.product.w.groups();
        let padded = groups.next_multiple_of(16);
        with_float!(self.product.dtype, T => {
            // SAFETY: by this function's own contract.
            unsafe {
                scales.add(padded - 16).write_bytes(0, 16);
                biases.add(padded - 16).write_bytes(0, 16);
                widen::<S, T>(self.scales_at(row).cast(), scales, groups);
                widen::<S, T>(self.biases_at(row).cast(), biases, groups);
            }
        });
    }

    fn scales_at(&self, row: usize) -> *const u8 {
        let bytes = row * self.product.w.groups() * self.product.dtype.size();
        self.product.scales.as_ptr().wrapping_add(bytes)
    }

    fn biases_at(&self, row: usize) -> *const u8 {
        let bytes = row * self.product.w.groups() * self.product.dtype.size();
        self.product.biases.as_ptr().wrapping_add(bytes)
    }
}

/// Field `FIELD` of words of fields of `BITS` bits: see [`Simd::field`].
///
/// # Safety
/// [`Simd`]'s contract.
#[inline(always)]
unsafe fn field<S: Simd, const FIELD: usize, const BITS: u32>(words: S::W) -> S::V {
    // SAFETY: by this function's own contract. Shifts of fields that there are not are never run.
    unsafe {
        match (FIELD, BITS) {
            (0, _) => match BITS {
                4 => S::field::<0, 4>(words),
                _ => S::field::<0, 8>(words),
            },
            (1, 4) => S::field::<4, 4>(words),
            (2, 4) => S::field::<8, 4>(words),
            (3, 4) => S::field::<12, 4>(words),
            (4, 4) => S::field::<16, 4>(words),
            (5, 4) => S::field::<20, 4>(words),
            (6, 4) => S::field::<24, 4>(words),
            (7, 4) => S::field::<28, 4>(words),
            (1, _) => S::field::<8, 8>(words),
            (2, _) => S::field::<16, 8>(words),
            _ => S::field::<24, 8>(words),
        }
    }
}
