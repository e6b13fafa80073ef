//! Vectors of sixteen 16-bit elements as two of float32: the even elements, and the odd ones.
//!
//! AVX2 widens neighbouring elements with an exchange of halves, of which it has few. Taking every other
//! one is a shift or a mask, if what they are multiplied with comes in this order too.

use std::arch::x86_64::*;

use half::bf16;

use crate::View;
use crate::scratch::Scratch;

/// Elements of a vector.
pub(crate) const PAIRED: usize = 16;

/// Rows of `x` as float32: of each [`PAIRED`] elements first the even ones.
///
/// # Safety
/// The machine has AVX2; `x` is bfloat16, in rows of whole vectors.
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
pub(crate) unsafe fn arrange(x: &View<'_>) -> Scratch<f32> {
    let (rows, cols) = (x.layout().rows, x.layout().cols);
    let mut arranged = Scratch::<f32>::take(rows * cols);
    for row in 0..rows {
        let from = x.row(0, row).cast::<bf16>();
        for first in (0..cols).step_by(PAIRED) {
            // SAFETY: by this function's own contract, `x` has these elements, and there is room for them.
            unsafe {
                let pairs = _mm256_loadu_si256(from.add(first).cast());
                let to = arranged.as_mut_ptr().add(row * cols + first);
                _mm256_storeu_ps(to, even(pairs));
                _mm256_storeu_ps(to.add(PAIRED / 2), odd(pairs));
            }
        }
    }
    arranged
}

/// The even ones of sixteen bfloat16.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
pub(crate) unsafe fn even(elements: __m256i) -> __m256 {
    // SAFETY: by this function's own contract.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(elements)) }
}

/// The odd ones.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
pub(crate) unsafe fn odd(elements: __m256i) -> __m256 {
    // SAFETY: by this function's own contract.
    unsafe {
        let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
        _mm256_castsi256_ps(_mm256_and_si256(elements, upper))
    }
}
