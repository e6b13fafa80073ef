//! From bytes to bfloat16, 64 at a time, one bfloat16 each.
//!
//! A byte has as many bits as the mantissa of a bfloat16, with the hidden one, but most bytes would have to be
//! shifted to where their highest bit is hidden. So they are looked up. As `q - 127.5`, which the biases make up
//! for, a byte is a sign and one of 128 numbers, `m + 0.5`; one instruction on bits makes sign and `m` of it, and
//! both bytes of the bfloat16 are in tables of 128, which are as large as those of one instruction.

use std::arch::x86_64::*;

/// What is taken from a byte.
pub(super) const MIDDLE: f32 = 127.5;

/// Constants of the conversion.
pub(super) struct Unpack {
    /// Of `m + 0.5` as bfloat16, the lower bytes and the upper ones.
    tables: [[__m512i; 2]; 2],
    /// What [`_mm512_gf2p8affine_epi64_epi8`] multiplies the bits of a byte by.
    bits: __m512i,
}

impl Unpack {
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new() -> Self {
        let mut bytes = [[0_u8; 128]; 2];
        for m in 0..128 {
            let [low, high] = half::bf16::from_f32(m as f32 + 0.5).to_le_bytes();
            (bytes[0][m], bytes[1][m]) = (low, high);
        }
        // SAFETY: both halves of a table are vectors.
        let tables = bytes.map(|table| unsafe {
            let first = table.as_ptr();
            [
                _mm512_loadu_si512(first.cast()),
                _mm512_loadu_si512(first.add(64).cast()),
            ]
        });
        // Bit `i` of the result is the parity of the byte and row `7 - i`, turned round: of bits `i` and 7 for
        // those of `m`, and of bit 7 for the sign.
        let mut rows = [0_u8; 8];
        for i in 0..7 {
            rows[7 - i] = 0x80 | 1 << i;
        }
        rows[0] = 0x80;
        Self {
            tables,
            bits: _mm512_set1_epi64(i64::from_le_bytes(rows)),
        }
    }

    /// The numbers of 64 bytes: of the first eight of each 16, and of the last.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,gfni")]
    #[inline]
    pub(super) fn line(&self, bytes: __m512i) -> [__m512i; 2] {
        const OR_AND: i32 = 0b1111_1000;
        let [low, high] = self.tables;
        let signed = _mm512_gf2p8affine_epi64_epi8::<0xff>(bytes, self.bits);
        let low = _mm512_permutex2var_epi8(low[0], signed, low[1]);
        let high = _mm512_permutex2var_epi8(high[0], signed, high[1]);
        let sign = _mm512_set1_epi8(i8::MIN);
        let high = _mm512_ternarylogic_epi32::<OR_AND>(high, signed, sign);
        [
            _mm512_unpacklo_epi8(low, high),
            _mm512_unpackhi_epi8(low, high),
        ]
    }
}
