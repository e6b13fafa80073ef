//! `x` as integers, in the order in which codes come out of their words.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;

use super::codes::Codes;
use crate::View;
use crate::isa::{Avx2, Float, Simd};
use crate::scratch::{Scratch, Shared};

/// Elements that are looked at at a time.
const EIGHT: usize = 8;

/// Elements that share a power of two where a step of codes is within a group. What 64 of them lose, at most
/// 2^-15 of the largest each, is in the worst case what bfloat16 may have lost of that one.
pub(super) const SPAN: usize = 64;

/// Spans of a group of so many elements; none where only what meets in a lane shares a power of two. (Codes of
/// eight bits wait for memory either way.)
pub(super) const fn spans<C: Codes>(group: usize) -> usize {
    if C::STEP <= SPAN && C::BITS < 8 {
        group / SPAN
    } else {
        0
    }
}

/// The exponent, as float32 has it, from which on a block's integers keep eight significant bits.
/// What is smaller would need a power of two that float32 has not.
const SMALLEST: u32 = 15;

/// A few rows of `x`, arranged for one kind of codes, and their sums over groups.
pub(super) struct Arranged {
    /// Rows of `x`.
    pub(super) rows: usize,
    /// For each row, for each step of codes, the vectors that they meet.
    values: Scratch<i16>,
    /// What a lane's sum of products is to be multiplied by: for each vector of each step; or, if there are
    /// spans, for eight groups their first spans, and then their second ones.
    units: Scratch<f32>,
    /// For each row: sums over groups, in a multiple of eight.
    sums: Scratch<f32>,
    /// The same of what the integers leave out, times the mean of all codes. With it, what an element lost
    /// is not multiplied by its code but by how far that is from the mean.
    rests: Scratch<f32>,
    values_stride: usize,
    units_stride: usize,
    sums_stride: usize,
}

impl Arranged {
    /// Arranges `x`, rows of bfloat16, in whole groups of `group` elements.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    pub(super) unsafe fn new<C: Codes>(x: &View<'_>, group: usize) -> Self {
        let (rows, cols) = (x.layout().rows, x.layout().cols);
        let spans = spans::<C>(group);
        // Elements that share a power of two: of a span, or all that meet in a lane.
        let block = if spans > 0 { SPAN } else { C::LANE.max(EIGHT) };
        let steps = cols.div_ceil(C::STEP);
        let sums_stride = (cols / group).next_multiple_of(8);
        let width = steps * C::STEP;
        // Rows apart by a cache line more than their length, which may be a power of two.
        let values_stride = width + 64 / size_of::<i16>();
        let units_stride = match spans {
            0 => steps * 8,
            _ => sums_stride * spans,
        };
        let mut this = Self {
            rows,
            values: Scratch::take(rows * values_stride),
            units: Scratch::take(rows * units_stride),
            sums: Scratch::take(rows * sums_stride),
            rests: Scratch::take(rows * sums_stride),
            values_stride,
            units_stride,
            sums_stride,
        };
        for row in 0..rows {
            let from = x.row(0, row).cast::<bf16>();
            // SAFETY: there is room for `rows` rows of these strides, and `x` has `cols` elements
            // in each of its.
            unsafe {
                let values = this.values.as_mut_ptr().add(row * values_stride);
                let units = this.units.as_mut_ptr().add(row * units_stride);
                let sums = this.sums.as_mut_ptr().add(row * sums_stride);
                let rests = this.rests.as_mut_ptr().add(row * sums_stride);
                sums.write_bytes(0, sums_stride);
                rests.write_bytes(0, sums_stride);
                units.write_bytes(0, units_stride);
                for at in (0..width).step_by(block) {
                    let left = cols.saturating_sub(at);
                    let (unit, rest) = integers::<C>(from, at..at + block, left, values);
                    if spans > 0 {
                        *units.add(span_at(at, group)) = unit / C::UNIT;
                    } else {
                        let lane = at / C::LANE;
                        for lane in lane..lane + block / C::LANE {
                            *units.add(lane) = unit / C::UNIT;
                        }
                    }
                    if left > 0 {
                        *rests.add(at / group) += rest * C::MIDDLE;
                    }
                }
                sum_groups(from, cols, group, sums);
            }
        }
        this
    }

    /// Where everything lies.
    pub(super) fn places(&self) -> Places {
        Places {
            values: Shared::new(self.values.as_ptr().cast_mut()),
            units: Shared::new(self.units.as_ptr().cast_mut()),
            sums: Shared::new(self.sums.as_ptr().cast_mut()),
            rests: Shared::new(self.rests.as_ptr().cast_mut()),
            values_stride: self.values_stride,
            units_stride: self.units_stride,
            sums_stride: self.sums_stride,
        }
    }
}

/// Where an arranged `x` lies, for loops in which looking that up takes time.
#[derive(Clone, Copy)]
pub(super) struct Places {
    values: Shared<i16>,
    units: Shared<f32>,
    sums: Shared<f32>,
    rests: Shared<f32>,
    pub(super) values_stride: usize,
    units_stride: usize,
    sums_stride: usize,
}

impl Places {
    /// The values of a row.
    #[inline(always)]
    pub(super) fn values(&self, row: usize) -> *const i16 {
        let first = self.values.get().cast_const();
        first.wrapping_add(row * self.values_stride)
    }

    /// The units of a row.
    #[inline(always)]
    pub(super) fn units(&self, row: usize) -> *const f32 {
        let first = self.units.get().cast_const();
        first.wrapping_add(row * self.units_stride)
    }

    /// A row's sums over groups.
    #[inline(always)]
    pub(super) fn sums(&self, row: usize) -> *const f32 {
        let first = self.sums.get().cast_const();
        first.wrapping_add(row * self.sums_stride)
    }

    /// A row's rests of groups.
    #[inline(always)]
    pub(super) fn rests(&self, row: usize) -> *const f32 {
        let first = self.rests.get().cast_const();
        first.wrapping_add(row * self.sums_stride)
    }
}

/// Where the unit of the span that begins at element `at` is.
fn span_at(at: usize, group: usize) -> usize {
    let (group_index, span) = (at / group, at % group / SPAN);
    (group_index / 8 * (group / SPAN) + span) * 8 + group_index % 8
}

/// Eight elements, of which `left` are there; the others are zero.
///
/// # Safety
/// So many can be read.
#[inline(always)]
unsafe fn load(from: *const bf16, left: usize) -> __m128i {
    // SAFETY: by this function's own contract.
    unsafe {
        if left >= EIGHT {
            return _mm_loadu_si128(from.cast());
        }
        let mut some = [0_u8; 2 * EIGHT];
        std::ptr::copy_nonoverlapping(from.cast(), some.as_mut_ptr(), 2 * left);
        _mm_loadu_si128(some.as_ptr().cast())
    }
}

/// A block of the elements of a row, of which `left` are there, as integers below 2^15, each where
/// [`Codes::place`] says among the `values` of the row. Gives back what 1 stands for, which is not a number where
/// an element is none or infinite, and the sum of what the integers leave out.
///
/// # Safety
/// The machine has AVX2; the elements can be read; there is room for the integers.
#[inline(always)]
unsafe fn integers<C: Codes>(
    from: *const bf16,
    block: Range<usize>,
    left: usize,
    values: *mut i16,
) -> (f32, f32) {
    // SAFETY: by this function's own contract.
    unsafe {
        let eights = block.clone().step_by(EIGHT);
        let mut elements = [_mm_setzero_si128(); SPAN / EIGHT];
        let mut largest = _mm_setzero_si128();
        for (i, at) in eights.clone().enumerate() {
            elements[i] = load(from.wrapping_add(at), left.saturating_sub(i * EIGHT));
            let magnitudes = _mm_and_si128(elements[i], _mm_set1_epi16(0x7fff));
            largest = _mm_max_epu16(largest, magnitudes);
        }
        let (unit, factor) = unit_and_factor(largest_exponent(largest));
        let mut rest = Avx2::zero();
        for (elements, first) in elements.into_iter().zip(eights) {
            let floats = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(elements));
            let floats = _mm256_castsi256_ps(floats);
            let words = _mm256_cvtps_epi32(_mm256_mul_ps(floats, _mm256_set1_ps(factor)));
            let mut numbers = [0_i32; EIGHT];
            _mm256_storeu_si256(numbers.as_mut_ptr().cast(), words);
            for (j, number) in numbers.into_iter().enumerate() {
                let at = first + j;
                let (step, lane) = (at / C::STEP, at % C::STEP / C::LANE);
                let (vector, half) = C::place(at % C::LANE);
                *values.add(step * C::STEP + vector * 16 + lane * 2 + half) = number as i16;
            }
            let kept = _mm256_mul_ps(_mm256_cvtepi32_ps(words), _mm256_set1_ps(unit));
            rest = Avx2::add(rest, _mm256_sub_ps(floats, kept));
        }
        (unit, Avx2::sum(rest))
    }
}

/// The largest exponent, as float32 has it, of eight bfloat16 without their signs.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
pub(super) unsafe fn largest_exponent(magnitudes: __m128i) -> u32 {
    // SAFETY: by this function's own contract.
    unsafe {
        // The largest one's bits are the smallest when they are turned round.
        let turned = _mm_xor_si128(magnitudes, _mm_set1_epi16(0x7fff));
        let smallest = _mm_extract_epi16::<0>(_mm_minpos_epu16(turned)) as u32;
        (0x7fff - smallest) >> 7
    }
}

/// For elements of which this is the largest exponent: what 1 of their integers stands for, which is not a
/// number where an element is none or infinite, and what makes integers of them, the largest being at least
/// 2^14 and below 2^15.
#[inline(always)]
pub(super) fn unit_and_factor(exponent: u32) -> (f32, f32) {
    let unit = match exponent {
        255 => f32::NAN,
        _ => f32::from_bits((exponent.max(SMALLEST) - 14) << 23),
    };
    let factor = f32::from_bits((254 + 14 - exponent.clamp(SMALLEST, 254)) << 23);
    (unit, factor)
}

/// The sums of the groups of a row.
///
/// # Safety
/// The machine has AVX2; there are `cols` elements, in whole groups of a multiple of eight, and room
/// for their sums.
#[inline(always)]
unsafe fn sum_groups(from: *const bf16, cols: usize, group: usize, sums: *mut f32) {
    for (g, first) in (0..cols).step_by(group).enumerate() {
        // SAFETY: by this function's own contract.
        unsafe {
            let mut sum = Avx2::zero();
            for at in (first..first + group).step_by(EIGHT) {
                sum = Avx2::add(sum, bf16::load::<Avx2>(from.add(at)));
            }
            *sums.add(g) = Avx2::sum(sum);
        }
    }
}
