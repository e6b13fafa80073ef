//! The small floats of the `mx` and `nv` modes, as MLX reads them.
//!
//! MLX departs from the standards in the corners: an e8m0 of 0 is 2^-127, one of 255 infinity,
//! and e4m3 has no NaN (0x7f is 480).

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Two to the 120th: moves e4m3's exponent, put where float32 has its own, to the right place.
const E4M3: f32 = f32::from_bits((127 + 120) << 23);

/// A float of 1 sign, 2 exponent and 1 mantissa bits: the low four bits of `code`.
pub(super) const fn e2m1(code: u8) -> f32 {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = VALUES[(code & 7) as usize];
    if code & 8 == 0 { value } else { -value }
}

/// A float of 1 sign, 4 exponent and 3 mantissa bits.
pub(super) const fn e4m3(code: u8) -> f32 {
    let value = f32::from_bits(((code & 0x7f) as u32) << 20) * E4M3;
    if code & 0x80 == 0 { value } else { -value }
}

/// A power of two of 8 exponent bits.
pub(super) const fn e8m0(code: u8) -> f32 {
    f32::from_bits(if code == 0 {
        1 << 22
    } else {
        (code as u32) << 23
    })
}

/// [`e4m3`] of sixteen bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn e4m3_x16(codes: __m128i) -> __m512 {
    let wide = _mm512_cvtepu8_epi32(codes);
    let low = _mm512_slli_epi32::<20>(_mm512_and_si512(wide, _mm512_set1_epi32(0x7f)));
    let value = _mm512_mul_ps(_mm512_castsi512_ps(low), _mm512_set1_ps(E4M3));
    let sign = _mm512_slli_epi32::<24>(_mm512_and_si512(wide, _mm512_set1_epi32(0x80)));
    _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), sign))
}

/// [`e8m0`] of sixteen bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn e8m0_x16(codes: __m128i) -> __m512 {
    let wide = _mm512_cvtepu8_epi32(codes);
    let zero = _mm512_testn_epi32_mask(wide, wide);
    let shifted = _mm512_slli_epi32::<23>(wide);
    _mm512_castsi512_ps(_mm512_mask_mov_epi32(
        shifted,
        zero,
        _mm512_set1_epi32(1 << 22),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_mlx_values() {
        assert_eq!([1, 7, 9, 15].map(e2m1), [0.5, 6.0, -0.5, -6.0]);
        assert_eq!(
            [0, 1, 8, 0x38, 0x7e, 0x7f, 0xb8].map(e4m3),
            [0.0, 0.001953125, 0.015625, 1.0, 448.0, 480.0, -1.0]
        );
        assert_eq!([127, 128, 1].map(e8m0), [1.0, 2.0, f32::MIN_POSITIVE]);
        assert_eq!(e8m0(0), f32::MIN_POSITIVE / 2.0);
        assert_eq!(e8m0(255), f32::INFINITY);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn sixteen_at_a_time_are_the_same() {
        if !crate::Isa::Avx512.is_available() {
            return;
        }
        for first in (0..256).step_by(16) {
            let codes: [u8; 16] = std::array::from_fn(|i| (first + i) as u8);
            let mut got = [[0.0_f32; 16]; 2];
            // SAFETY: the instruction set is there, and the arrays are vectors.
            unsafe {
                let bytes = _mm_loadu_si128(codes.as_ptr().cast());
                _mm512_storeu_ps(got[0].as_mut_ptr(), e4m3_x16(bytes));
                _mm512_storeu_ps(got[1].as_mut_ptr(), e8m0_x16(bytes));
            }
            assert_eq!(got[0], codes.map(e4m3));
            assert_eq!(got[1], codes.map(e8m0));
        }
    }
}
