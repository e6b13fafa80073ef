//! `x` in the order of the lanes that it meets.
//!
//! A step of a product takes one pair of elements from each quarter of a line of weights: see
//! [`rows`](super::rows). Four rows of `x` together are vectors that have the pairs of all four for each quarter. A
//! row that comes alone stays as it is, and the halves of quarters apart.

use std::arch::x86_64::*;

use half::bf16;

use super::super::arrange::{load, sum_groups};
use super::PAIR;
use super::rows::FOUR;
use crate::View;
use crate::scratch::Scratch;

/// A few rows of `x`, and their sums over groups.
pub(super) struct Arranged {
    /// Rows of `x`.
    pub(super) rows: usize,
    /// For each four rows, for each line of weights: for each half of the quarters, for each pair of a half, a
    /// vector. For each row alone, for each line, for each half: a vector.
    values: Scratch<u16>,
    /// For each four rows, for each 16 groups, four vectors: groups 0, 4, 8 and 12 of all rows, then 1, 5, 9
    /// and 13. For each row alone: its sums.
    sums: Scratch<f32>,
    /// Of one row.
    values_stride: usize,
    sums_stride: usize,
}

impl Arranged {
    /// Arranges `x`, rows of bfloat16.
    ///
    /// # Safety
    /// The machine has AVX-512 with the bfloat16 dot product.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn new(x: &View<'_>, group: usize) -> Self {
        let (rows, cols) = (x.layout().rows, x.layout().cols);
        let values_stride = cols.next_multiple_of(64);
        let sums_stride = (cols / group).next_multiple_of(16);
        let room = if rows > PAIR {
            rows.next_multiple_of(FOUR)
        } else {
            rows
        };
        let mut this = Self {
            rows,
            values: Scratch::take(room * values_stride),
            sums: Scratch::take(room * sums_stride),
            values_stride,
            sums_stride,
        };
        let mut sums = Scratch::<f32>::take(FOUR * sums_stride);
        for first in (0..room).step_by(FOUR) {
            // SAFETY: there is room for these rows; rows that there are not have no elements.
            unsafe {
                let values = this.values.as_mut_ptr().add(first * values_stride);
                let to = this.sums.as_mut_ptr().add(first * sums_stride);
                let four = std::array::from_fn(|i| match first + i < rows {
                    true => (x.row(0, first + i).cast::<bf16>(), cols),
                    false => (std::ptr::null(), 0),
                });
                for (i, &(from, cols)) in four.iter().enumerate() {
                    let sums = sums.as_mut_ptr().add(i * sums_stride);
                    sum_groups(from, cols, group, sums, sums_stride);
                }
                if rows > PAIR {
                    arrange_four(four, values, values_stride);
                    sums_of_four(sums.as_ptr(), sums_stride, to);
                } else {
                    for (i, &(from, cols)) in four[..rows].iter().enumerate() {
                        arrange_one(from, cols, values.add(i * values_stride), values_stride);
                    }
                    std::ptr::copy_nonoverlapping(sums.as_ptr(), to, rows * sums_stride);
                }
            }
        }
        this
    }

    /// The arranged values from row `row` on, which comes alone or is the first of four.
    #[inline(always)]
    pub(super) fn values(&self, row: usize) -> *const u16 {
        self.values.as_ptr().wrapping_add(row * self.values_stride)
    }

    /// The sums over groups from such a row on.
    #[inline(always)]
    pub(super) fn sums(&self, row: usize) -> *const f32 {
        self.sums.as_ptr().wrapping_add(row * self.sums_stride)
    }
}

/// The first and the last eight elements of each 16, of 64 of a row of which there are `cols`.
///
/// # Safety
/// `x` leads to `cols` elements.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn halves(x: *const bf16, at: usize, cols: usize) -> [__m512i; 2] {
    // SAFETY: by this function's own contract.
    let (a, b) = unsafe { (load(x, at, cols), load(x, at + 32, cols)) };
    [
        _mm512_shuffle_i32x4::<0x88>(a, b),
        _mm512_shuffle_i32x4::<0xdd>(a, b),
    ]
}

/// # Safety
/// `x` leads to `cols` elements, `out` to room for `room`, which are whole lines.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn arrange_one(x: *const bf16, cols: usize, out: *mut u16, room: usize) {
    for at in (0..room).step_by(64) {
        // SAFETY: by this function's own contract.
        unsafe {
            for (half, values) in halves(x, at, cols).into_iter().enumerate() {
                _mm512_storeu_si512(out.add(at + 32 * half).cast(), values);
            }
        }
    }
}

/// # Safety
/// Each of `x` leads to its number of elements, `out` to room for four times `room`, which are whole lines.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn arrange_four(x: [(*const bf16, usize); FOUR], out: *mut u16, room: usize) {
    for at in (0..room).step_by(64) {
        // SAFETY: by this function's own contract.
        unsafe {
            let rows = x.map(|(x, cols)| halves(x, at, cols));
            for half in 0..2 {
                let steps = transposed(rows.map(|row| row[half]));
                for (step, values) in steps.into_iter().enumerate() {
                    let vector = FOUR * half + step;
                    _mm512_storeu_si512(out.add(FOUR * at + 32 * vector).cast(), values);
                }
            }
        }
    }
}

/// # Safety
/// `sums` leads to four rows of `stride` floats, a multiple of 16, and `out` to room for as many.
#[target_feature(enable = "avx512f")]
unsafe fn sums_of_four(sums: *const f32, stride: usize, out: *mut f32) {
    for at in (0..stride).step_by(16) {
        // SAFETY: by this function's own contract.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); FOUR];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_si512(sums.add(i * stride + at).cast());
            }
            for (i, sums) in transposed(rows).into_iter().enumerate() {
                _mm512_storeu_si512(out.add(FOUR * at + 16 * i).cast(), sums);
            }
        }
    }
}

/// Of four rows, for each `j`: numbers `j` of all rows of each four that they have, words of 32 bits.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transposed([a, b, c, d]: [__m512i; FOUR]) -> [__m512i; FOUR] {
    let (ab01, ab23) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd01, cd23) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab01, cd01),
        _mm512_unpackhi_epi64(ab01, cd01),
        _mm512_unpacklo_epi64(ab23, cd23),
        _mm512_unpackhi_epi64(ab23, cd23),
    ]
}

/// The same of floats.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transposed_floats([a, b, c, d]: [__m512; FOUR]) -> [__m512; FOUR] {
    let words = [
        _mm512_castps_si512(a),
        _mm512_castps_si512(b),
        _mm512_castps_si512(c),
        _mm512_castps_si512(d),
    ];
    let [a, b, c, d] = transposed(words);
    [
        _mm512_castsi512_ps(a),
        _mm512_castsi512_ps(b),
        _mm512_castsi512_ps(c),
        _mm512_castsi512_ps(d),
    ]
}
