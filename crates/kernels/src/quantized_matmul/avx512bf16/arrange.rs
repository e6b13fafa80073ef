//! `x` in the order in which weights come out of their words.

use std::arch::x86_64::*;

use half::bf16;

use super::super::Format;
use crate::View;
use crate::scratch::Scratch;

/// A few rows of `x`, arranged for one format, and their sums over groups.
pub(super) struct Arranged {
    /// Rows of `x`.
    pub(super) rows: usize,
    /// For each row: for each line of weights, one vector of bfloat16 pairs for each of four look-ups.
    values: Scratch<u16>,
    /// For each row: sums over groups, in a multiple of 16.
    sums: Scratch<f32>,
    values_stride: usize,
    sums_stride: usize,
}

impl Arranged {
    /// Arranges `x`, rows of bfloat16.
    ///
    /// # Safety
    /// The machine has AVX-512 with the bfloat16 dot product; `format` is of 4 bits.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn new(x: &View<'_>, format: Format) -> Self {
        let (rows, cols) = (x.layout().rows, x.layout().cols);
        let values_stride = cols.next_multiple_of(128);
        let sums_stride = (cols / format.group_size()).next_multiple_of(16);
        let mut values = Scratch::<u16>::take(rows * values_stride);
        let mut sums = Scratch::<f32>::take(rows * sums_stride);
        for row in 0..rows {
            let from = x.row(0, row).cast::<bf16>();
            // SAFETY: both blocks were taken for `rows` rows of these strides.
            unsafe {
                let values = values.as_mut_ptr().add(row * values_stride);
                arrange_nibbles(from, cols, values);
                let sums = sums.as_mut_ptr().add(row * sums_stride);
                sum_groups(from, cols, format.group_size(), sums, sums_stride);
            }
        }
        Self {
            rows,
            values,
            sums,
            values_stride,
            sums_stride,
        }
    }

    /// The arranged values of a row.
    #[inline(always)]
    pub(super) fn values(&self, row: usize) -> *const u16 {
        self.values.as_ptr().wrapping_add(row * self.values_stride)
    }

    /// A row's sums over groups.
    #[inline(always)]
    pub(super) fn sums(&self, row: usize) -> *const f32 {
        self.sums.as_ptr().wrapping_add(row * self.sums_stride)
    }
}

/// Elements `at..at + 32` of `cols`, zero beyond the last.
///
/// # Safety
/// `x` leads to `cols` elements.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn load(x: *const bf16, at: usize, cols: usize) -> __m512i {
    let left = cols.saturating_sub(at).min(32);
    let mask = ((1_u64 << left) - 1) as u32;
    // SAFETY: lanes beyond the last element are not touched.
    unsafe { _mm512_maskz_loadu_epi16(mask, x.wrapping_add(at).cast()) }
}

/// A line is 16 words of 8 elements. The look-up of nibble `i` of each half word yields the pair
/// of elements `i` and `i + 4` of each word.
///
/// # Safety
/// `x` leads to `cols` elements, `out` to room for whole lines of 128.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn arrange_nibbles(x: *const bf16, cols: usize, out: *mut u16) {
    // Four words of eight elements make a vector; quarter `i` of it shall have the pairs `i`.
    let mut order = [0_u16; 32];
    for (to, from) in order.iter_mut().enumerate() {
        let (pair, word, half) = (to / 8, to % 8 / 2, to % 2);
        *from = (8 * word + 4 * half + pair) as u16;
    }
    // SAFETY: `order` is a vector; `out` has room for whole lines.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        for at in (0..cols).step_by(128) {
            let a = _mm512_permutexvar_epi16(order, load(x, at, cols));
            let b = _mm512_permutexvar_epi16(order, load(x, at + 32, cols));
            let c = _mm512_permutexvar_epi16(order, load(x, at + 64, cols));
            let d = _mm512_permutexvar_epi16(order, load(x, at + 96, cols));
            // Quarters 0 and 1, and 2 and 3, of two vectors each; then one quarter of all four.
            let ab01 = _mm512_shuffle_i32x4::<0x44>(a, b);
            let ab23 = _mm512_shuffle_i32x4::<0xee>(a, b);
            let cd01 = _mm512_shuffle_i32x4::<0x44>(c, d);
            let cd23 = _mm512_shuffle_i32x4::<0xee>(c, d);
            let out = out.add(at);
            _mm512_storeu_si512(out.cast(), _mm512_shuffle_i32x4::<0x88>(ab01, cd01));
            _mm512_storeu_si512(out.add(32).cast(), _mm512_shuffle_i32x4::<0xdd>(ab01, cd01));
            _mm512_storeu_si512(out.add(64).cast(), _mm512_shuffle_i32x4::<0x88>(ab23, cd23));
            _mm512_storeu_si512(out.add(96).cast(), _mm512_shuffle_i32x4::<0xdd>(ab23, cd23));
        }
    }
}

/// Sums `x` over groups of `group` elements; `room` sums are written, zero beyond the last group.
///
/// # Safety
/// `x` leads to `cols` elements, a multiple of `group`; `out` to `room` floats.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn sum_groups(
    x: *const bf16,
    cols: usize,
    group: usize,
    out: *mut f32,
    room: usize,
) {
    // SAFETY: transmutations between vectors of one size.
    let one: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi16(0x3f80)) };
    for g in 0..room {
        let (begin, end) = (g * group, ((g + 1) * group).min(cols));
        let mut sum = _mm512_setzero_ps();
        let mut at = begin;
        while at < end {
            // SAFETY: as this function's contract; the transmutation is between vectors.
            sum = unsafe {
                _mm512_dpbf16_ps(
                    sum,
                    std::mem::transmute::<__m512i, __m512bh>(load(x, at, end)),
                    one,
                )
            };
            at += 32;
        }
        // SAFETY: there is room for `room` floats.
        unsafe { *out.add(g) = _mm512_reduce_add_ps(sum) };
    }
}
