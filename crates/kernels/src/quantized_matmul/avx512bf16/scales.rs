//! Scales as they are stored, sixteen at a time.

use std::arch::x86_64::*;

use super::super::fp;

/// How a format stores its scales.
pub(super) trait ScaleFormat {
    /// Whether the mode is affine: codes are integers, and there are biases.
    const AFFINE: bool;

    /// Scales or biases number `at` to `at + 16` as float32, zero where `mask` has no bit.
    ///
    /// # Safety
    /// The machine has AVX-512; those that `mask` names can be read.
    unsafe fn load(from: *const u8, at: usize, mask: __mmask16) -> __m512;

    /// Asks for the `at`th scale or bias, which need not exist.
    ///
    /// # Safety
    /// The machine has AVX-512.
    unsafe fn prefetch(from: *const u8, at: usize);
}

macro_rules! scale_format {
    ($name:ident, $size:expr, $affine:expr, |$from:ident, $at:ident, $mask:ident| $body:expr) => {
        pub(super) struct $name;

        impl ScaleFormat for $name {
            const AFFINE: bool = $affine;

            #[inline(always)]
            unsafe fn load($from: *const u8, $at: usize, $mask: __mmask16) -> __m512 {
                // SAFETY: by the trait's contract; lanes without a bit are not touched.
                unsafe { $body }
            }

            #[inline(always)]
            unsafe fn prefetch(from: *const u8, at: usize) {
                // SAFETY: by the trait's contract.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add($size * at).cast()) }
            }
        }
    };
}

scale_format!(F32, 4, true, |from, at, mask| _mm512_maskz_loadu_ps(
    mask,
    from.add(4 * at).cast()
));
scale_format!(F16, 2, true, |from, at, mask| {
    _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from.add(2 * at).cast()))
});
scale_format!(Bf16, 2, true, |from, at, mask| {
    let halves = _mm256_maskz_loadu_epi16(mask, from.add(2 * at).cast());
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
});
scale_format!(E8m0, 1, false, |from, at, mask| {
    fp::e8m0_x16(_mm_maskz_loadu_epi8(mask, from.add(at).cast()))
});
scale_format!(E4m3, 1, false, |from, at, mask| {
    fp::e4m3_x16(_mm_maskz_loadu_epi8(mask, from.add(at).cast()))
});
