//! With AVX2: weights become float32, and `x` is float32 in the order in which they do.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::lines::Narrow;
use super::{Multiply, Products};
use crate::even_odd::{PAIRED, even, odd};
use crate::isa::{Avx2, Float, Simd};

/// # Safety
/// As [`Products::columns`], on a machine with AVX2, for rows that [`arrange`](crate::even_odd::arrange) made.
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
                        let x = x[i].cast::<f32>().add(32 * part + PAIRED * half);
                        sums[i] = Avx2::mul_add(even, f32::load::<Avx2>(x), sums[i]);
                        let x = x.add(PAIRED / 2);
                        sums[i] = Avx2::mul_add(odd, f32::load::<Avx2>(x), sums[i]);
                    }
                }
            }
        }
    }
}
