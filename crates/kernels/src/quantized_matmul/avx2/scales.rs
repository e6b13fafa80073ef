//! Scales as they are stored, eight at a time.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::super::fp;
use crate::isa::{Avx2, Float};

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
