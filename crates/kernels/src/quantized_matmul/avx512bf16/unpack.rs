//! From codes to bfloat16, 64 bytes at a time.
//!
//! An affine nibble is put where a bfloat16 between 1 and 2 has the upper part of its mantissa:
//! `1 + q / 16`, by a shift and one operation that masks and sets the exponent. The added ones
//! are taken away through the sums of `x` over groups, which the biases need anyway. This costs a
//! third less than looking the nibbles up (shifts and permutations share two ports of Zen 5), and
//! less than two bits of a float32 sum. A byte is two nibbles, the upper one as `16 + h`, so that
//! together they are `17 + q / 16`.
//!
//! The nibbles of the other modes are floats, and are looked up.

use std::arch::x86_64::*;
use std::array::from_fn;

use super::super::fp;
use super::scales::ScaleFormat;

/// The constants of a format.
pub(super) struct Unpack {
    /// Affine: the exponents of even and odd nibbles. Otherwise: the table of values.
    values: [__m512i; 2],
    /// Affine: what is added to `q / 16`, times 16.
    excess: __m512,
}

impl Unpack {
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new<S: ScaleFormat, const BITS: usize>() -> Self {
        let one = _mm512_set1_epi16(0x3f80);
        if !S::AFFINE {
            // Every value is there twice: a look-up uses five bits of an index, and the fifth is
            // the lowest of the next nibble.
            let table: [u16; 32] =
                from_fn(|i| half::bf16::from_f32(fp::e2m1(i as u8 & 15)).to_bits());
            // SAFETY: the table is a vector.
            let table = unsafe { _mm512_loadu_si512(table.as_ptr().cast()) };
            return Self {
                values: [table; 2],
                excess: _mm512_setzero_ps(),
            };
        }
        match BITS {
            4 => Self {
                values: [one; 2],
                excess: _mm512_set1_ps(16.0),
            },
            _ => {
                let sixteen = _mm512_set1_epi16(0x4180);
                Self {
                    values: [one, sixteen],
                    excess: _mm512_set1_ps(16.0 * 17.0),
                }
            }
        }
    }

    /// The four vectors of bfloat16 of a line of codes: of nibble 0, 1, 2, 3 of every 16 bits.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(super) fn line<S: ScaleFormat, const BITS: usize>(&self, words: __m512i) -> [__m512i; 4] {
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
                out[i] = _mm512_ternarylogic_epi32::<AND_OR>(shifted[i], place, self.values[i % 2]);
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
                out[i] = _mm512_permutexvar_epi16(shifted[i], self.values[0]);
            }
            out
        }
    }

    /// Makes of an affine format's scales and biases what belongs to [`Unpack::line`]'s values.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn correct<const BITS: usize>(&self, scales: &mut __m512, biases: __m512) -> __m512 {
        let biases = _mm512_fnmadd_ps(*scales, self.excess, biases);
        *scales = _mm512_mul_ps(*scales, _mm512_set1_ps(16.0));
        biases
    }
}
