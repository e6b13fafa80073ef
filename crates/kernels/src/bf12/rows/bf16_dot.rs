//! With AVX-512's dot product of bfloat16 pairs, for which `x` stays as it is.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::lines::Wide;
use super::{Multiply, Products};
use crate::isa::Avx512;

/// # Safety
/// As [`Products::columns`], on a machine with AVX-512 and the bfloat16 dot product, for rows of `x` as
/// they are.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn columns(products: &Products<'_>, part: usize, range: Range<usize>) {
    // SAFETY: by this function's own contract.
    unsafe { products.columns::<Bf16Dot>(part, range) }
}

struct Bf16Dot(Wide);

impl Multiply for Bf16Dot {
    type Simd = Avx512;
    const X_SIZE: usize = 2;

    #[inline(always)]
    unsafe fn new(high: &[u8; 16]) -> Self {
        // SAFETY: by the trait's contract.
        Self(unsafe { Wide::new(high) })
    }

    #[inline(always)]
    unsafe fn add_products<const M: usize>(
        &self,
        lines: *const u8,
        x: [*const u8; M],
        sums: &mut [__m512; M],
    ) {
        // SAFETY: by the trait's contract.
        unsafe {
            let weights = self.0.block(lines);
            for i in 0..M {
                for part in 0..4 {
                    let x = _mm512_loadu_si512(x[i].add(64 * part).cast());
                    sums[i] = _mm512_dpbf16_ps(sums[i], pairs(weights[part]), pairs(x));
                }
            }
        }
    }
}

/// The same bits as pairs of bfloat16.
#[inline(always)]
fn pairs(v: __m512i) -> __m512bh {
    // SAFETY: two vectors of one size, for both of which any bits are a value.
    unsafe { std::mem::transmute(v) }
}
