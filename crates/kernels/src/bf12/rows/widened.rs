//! With AVX2: weights become float32, and `x` is float32 in the order in which they do.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;

use super::super::lines::Narrow;
use super::{Multiply, Products};
use crate::View;
use crate::isa::{Avx2, Float, Simd};
use crate::scratch::Scratch;

/// Elements that lie in one vector before they are widened. Of these the even ones become one vector of
/// float32, and the odd ones the next.
const PAIRS: usize = 16;

/// Rows of `x`, which are of whole blocks: of each [`PAIRS`] elements first the even ones.
///
/// # Safety
/// The machine has AVX2; `x` is bfloat16.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
pub(super) unsafe fn arrange(x: &View<'_>) -> Scratch<f32> {
    let (rows, cols) = (x.layout().rows, x.layout().cols);
    let mut arranged = Scratch::<f32>::take(rows * cols);
    for row in 0..rows {
        let from = x.row(0, row).cast::<bf16>();
        for first in (0..cols).step_by(PAIRS) {
            // SAFETY: by this function's own contract, `x` has these elements, and there is room for them.
            unsafe {
                let pairs = _mm256_loadu_si256(from.add(first).cast());
                let to = arranged.as_mut_ptr().add(row * cols + first);
                _mm256_storeu_ps(to, even(pairs));
                _mm256_storeu_ps(to.add(PAIRS / 2), odd(pairs));
            }
        }
    }
    arranged
}

/// # Safety
/// As [`Products::columns`], on a machine with AVX2, for rows that [`arrange`] made.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
pub(super) unsafe fn columns(products: &Products<'_>, part: usize, range: Range<usize>) {
    // SAFETY: by this function's own contract.
    unsafe { products.columns::<Widened>(part, range) }
}

struct Widened(Narrow);

impl Multiply for Widened {
    type Simd = Avx2;
    const X_SIZE: usize = 4;

    #[inline(always)]
    unsafe fn new(high: &[u8; 16]) -> Self {
        // SAFETY: by the trait's contract.
        Self(unsafe { Narrow::new(high) })
    }

    #[inline(always)]
    unsafe fn add_products<const M: usize>(
        &self,
        lines: *const u8,
        x: [*const u8; M],
        sums: &mut [__m256; M],
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            for half in 0..2 {
                let weights = self.0.half(lines, half);
                for part in 0..4 {
                    let (even, odd) = (even(weights[part]), odd(weights[part]));
                    for i in 0..M {
                        let x = x[i].cast::<f32>().add(32 * part + PAIRS * half);
                        sums[i] = Avx2::mul_add(even, f32::load::<Avx2>(x), sums[i]);
                        let x = x.add(PAIRS / 2);
                        sums[i] = Avx2::mul_add(odd, f32::load::<Avx2>(x), sums[i]);
                    }
                }
            }
        }
    }
}

/// The lower bfloat16 of each pair as float32.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn even(pairs: __m256i) -> __m256 {
    // SAFETY: by this function's own contract.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)) }
}

/// The upper one.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn odd(pairs: __m256i) -> __m256 {
    // SAFETY: by this function's own contract.
    unsafe {
        let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
        _mm256_castsi256_ps(_mm256_and_si256(pairs, upper))
    }
}
