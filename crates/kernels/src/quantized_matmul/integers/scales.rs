//! Scales as they are stored, eight at a time.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::super::fp;
use crate::isa::{Avx2, Float, Simd};

/// How a format stores its scales.
pub(super) trait ScaleFormat {
    /// Whether the mode is affine: there are biases.
    const AFFINE: bool;
    /// Bytes of a scale.
    const SIZE: usize;

    /// The first `count` of eight scales or biases as float32; the others are zero.
    ///
    /// # Safety
    /// The machine has AVX2; so many can be read.
    unsafe fn load(from: *const u8, count: usize) -> __m256;
}

/// Floats.
pub(super) struct Plain<T>(PhantomData<T>);

impl<T: Float> ScaleFormat for Plain<T> {
    const AFFINE: bool = true;
    const SIZE: usize = size_of::<T>();

    #[inline(always)]
    unsafe fn load(from: *const u8, count: usize) -> __m256 {
        // SAFETY: by the trait's contract.
        unsafe {
            match count {
                8.. => T::load::<Avx2>(from.cast()),
                _ => T::load_first::<Avx2>(from.cast(), count),
            }
        }
    }
}

/// One byte each, which `$value` reads.
macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $value:path) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl ScaleFormat for $name {
            const AFFINE: bool = false;
            const SIZE: usize = 1;

            #[inline(always)]
            unsafe fn load(from: *const u8, count: usize) -> __m256 {
                /// What each byte says.
                static VALUES: [f32; 256] = {
                    let mut values = [0.0; 256];
                    let mut code = 0;
                    while code < 256 {
                        values[code] = $value(code as u8);
                        code += 1;
                    }
                    values
                };
                let mut scales = [0.0; 8];
                // SAFETY: by the trait's contract.
                unsafe {
                    for i in 0..count.min(8) {
                        scales[i] = VALUES[usize::from(*from.add(i))];
                    }
                    _mm256_loadu_ps(scales.as_ptr())
                }
            }
        }
    };
}

bytes!(
    /// Powers of two.
    E8m0,
    fp::e8m0
);
bytes!(
    /// Floats of 1 sign, 4 exponent and 3 mantissa bits.
    E4m3,
    fp::e4m3
);

/// Of each of `R` rows, which are `stride` bytes apart, the first `count` of eight scales or biases; the others
/// are zero.
///
/// # Safety
/// The machine has AVX2; so many can be read.
#[inline(always)]
pub(super) unsafe fn load_scales<S: ScaleFormat, const R: usize>(
    from: *const u8,
    stride: usize,
    count: usize,
) -> [__m256; R] {
    /// What follows a row's whole blocks, apart from the loop of these.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    unsafe fn some<S: ScaleFormat>(from: *const u8, count: usize, to: &mut [f32; 8]) {
        // SAFETY: by the contract of the function around it.
        unsafe { Avx2::store_f32(to.as_mut_ptr(), S::load(from, count)) }
    }
    // SAFETY: by this function's own contract.
    unsafe {
        let mut scales = [Avx2::zero(); R];
        if count == 8 {
            for r in 0..R {
                scales[r] = S::load(from.add(r * stride), 8);
            }
        } else {
            for r in 0..R {
                let mut lanes = [0.0; 8];
                some::<S>(from.add(r * stride), count, &mut lanes);
                scales[r] = Avx2::load_f32(lanes.as_ptr());
            }
        }
        scales
    }
}
