//! From codes to bfloat16, 64 bytes at a time.
//!
//! An affine nibble is put where a bfloat16 between 1 and 2 has the upper part of its mantissa:
//! `1 + q / 16`, by a shift and one operation that masks and sets the exponent. The added ones
//! are taken away through the sums of `x` over groups, which the biases need anyway. This costs a
//! third less than looking the nibbles up (shifts and permutations share two ports of Zen 5), and
//! less than two bits of a float32 sum.
//!
//! The nibbles of the other modes are floats, and are looked up.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::super::fp;
use super::scales::ScaleFormat;

/// The constants of a format.
pub(super) struct Unpack {
    /// Affine: the exponent of a nibble. Otherwise: the table of values.
    values: __m512i,
}

impl Unpack {
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new<S: ScaleFormat>() -> Self {
        if S::AFFINE {
            return Self {
                values: _mm512_set1_epi16(0x3f80),
            };
        }
        // Every value is there twice: a look-up uses five bits of an index, and the fifth is
        // the lowest of the next nibble.
        let table: [u16; 32] = from_fn(|i| half::bf16::from_f32(fp::e2m1(i as u8 & 15)).to_bits());
        // SAFETY: the table is a vector.
        let values = unsafe { _mm512_loadu_si512(table.as_ptr().cast()) };
        Self { values }
    }

    /// The four vectors of bfloat16 of a line of codes: of nibble 0, 1, 2, 3 of every 16 bits.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn line<S: ScaleFormat>(&self, words: __m512i) -> [__m512i; 4] {
        if S::AFFINE {
            let place = _mm512_set1_epi16(0x0078);
            let shifted = [
                _mm512_slli_epi16::<3>(words),
                _mm512_srli_epi16::<1>(words),
                _mm512_srli_epi16::<5>(words),
                _mm512_srli_epi16::<9>(words),
            ];
            let mut out = shifted;
            for i in 0..4 {
                const AND_OR: i32 = 0b1110_1010;
                out[i] = _mm512_ternarylogic_epi32::<AND_OR>(shifted[i], place, self.values);
            }
            out
        } else {
            let shifted = [
                words,
                _mm512_srli_epi16::<4>(words),
                _mm512_srli_epi16::<8>(words),
                _mm512_srli_epi16::<12>(words),
            ];
            let mut out = shifted;
            for i in 0..4 {
                out[i] = _mm512_permutexvar_epi16(shifted[i], self.values);
            }
            out
        }
    }

    /// Makes of an affine format's scales and biases what belongs to [`Unpack::line`]'s values.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn correct(scales: &mut __m512, biases: __m512) -> __m512 {
        *scales = _mm512_mul_ps(*scales, _mm512_set1_ps(16.0));
        _mm512_sub_ps(biases, *scales)
    }
}
