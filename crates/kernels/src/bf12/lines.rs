//! Blocks in registers.

use std::arch::x86_64::*;

use super::LINE;

/// What decoding by vectors of 64 bytes needs beside the lines.
#[derive(Clone, Copy)]
pub(super) struct Wide {
    /// The high bytes of the codes, in each 16 bytes.
    high: __m512i,
    /// The lower half of each byte.
    low: __m512i,
}

impl Wide {
    /// # Safety
    /// The machine has AVX-512 F and BW, and the code around is compiled for it.
    #[inline(always)]
    pub(super) unsafe fn new(high: &[u8; 16]) -> Self {
        // SAFETY: by this function's own contract; there are 16 bytes.
        unsafe {
            let high = _mm_loadu_si128(high.as_ptr().cast());
            Self {
                high: _mm512_broadcast_i32x4(high),
                low: _mm512_set1_epi8(0x0f),
            }
        }
    }

    /// The elements of the block at `lines`, rare ones as zeros.
    ///
    /// # Safety
    /// The machine has AVX-512 F and BW, and the code around is compiled for it; three lines are at `lines`.
    #[inline(always)]
    pub(super) unsafe fn block(&self, lines: *const u8) -> [__m512i; 4] {
        // SAFETY: by this function's own contract.
        unsafe {
            let first = _mm512_loadu_si512(lines.cast());
            let second = _mm512_loadu_si512(lines.add(LINE).cast());
            let codes = _mm512_loadu_si512(lines.add(2 * LINE).cast());
            let upper = _mm512_srli_epi16::<4>(codes);
            let of_first = _mm512_shuffle_epi8(self.high, _mm512_and_si512(codes, self.low));
            let of_second = _mm512_shuffle_epi8(self.high, _mm512_and_si512(upper, self.low));
            [
                _mm512_unpacklo_epi8(first, of_first),
                _mm512_unpackhi_epi8(first, of_first),
                _mm512_unpacklo_epi8(second, of_second),
                _mm512_unpackhi_epi8(second, of_second),
            ]
        }
    }
}

/// The same by vectors of 32 bytes.
#[derive(Clone, Copy)]
pub(super) struct Narrow {
    high: __m256i,
    low: __m256i,
}

impl Narrow {
    /// # Safety
    /// The machine has AVX2, and the code around is compiled for it.
    #[inline(always)]
    pub(super) unsafe fn new(high: &[u8; 16]) -> Self {
        // SAFETY: by this function's own contract; there are 16 bytes.
        unsafe {
            let high = _mm_loadu_si128(high.as_ptr().cast());
            Self {
                high: _mm256_broadcastsi128_si256(high),
                low: _mm256_set1_epi8(0x0f),
            }
        }
    }

    /// Half of the elements of the block at `lines`, rare ones as zeros: of each 32, the first 16 or,
    /// for half 1, the others.
    ///
    /// # Safety
    /// The machine has AVX2, and the code around is compiled for it; three lines are at `lines`.
    #[inline(always)]
    pub(super) unsafe fn half(&self, lines: *const u8, half: usize) -> [__m256i; 4] {
        // SAFETY: by this function's own contract.
        unsafe {
            let lines = lines.add(half * LINE / 2);
            let first = _mm256_loadu_si256(lines.cast());
            let second = _mm256_loadu_si256(lines.add(LINE).cast());
            let codes = _mm256_loadu_si256(lines.add(2 * LINE).cast());
            let upper = _mm256_srli_epi16::<4>(codes);
            let of_first = _mm256_shuffle_epi8(self.high, _mm256_and_si256(codes, self.low));
            let of_second = _mm256_shuffle_epi8(self.high, _mm256_and_si256(upper, self.low));
            [
                _mm256_unpacklo_epi8(first, of_first),
                _mm256_unpackhi_epi8(first, of_first),
                _mm256_unpacklo_epi8(second, of_second),
                _mm256_unpackhi_epi8(second, of_second),
            ]
        }
    }
}
