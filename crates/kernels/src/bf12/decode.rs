//! From codes to bfloat16.

use super::{BLOCK, BLOCK_LINES, Bf12, KEPT};
use crate::Isa;

/// How many lines ahead of its use one is asked for: the next row is usually decoded next.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 96;

/// Decodes row `row` of `w` to `to`, which needs no alignment.
///
/// # Safety
/// The machine has `isa`; the row exists; `to` leads to room for it.
pub(super) unsafe fn row(isa: Isa, w: &Bf12, row: usize, to: *mut u16) {
    // SAFETY: by this function's own contract.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => avx512(w, row, to),
            _ => plain(w, row, to),
        }
        for rare in w.rare(row) {
            to.add(rare.col as usize).write_unaligned(rare.bits);
        }
    }
}

/// All but the rare elements of a row, word by word.
///
/// # Safety
/// As [`row`].
unsafe fn plain(w: &Bf12, row: usize, to: *mut u16) {
    let words = w.row(row).cast::<u16>();
    for block in 0..w.cols / BLOCK {
        for i in 0..32 {
            // SAFETY: by this function's own contract; so many words are in a block.
            unsafe {
                let words = words.add(block * 32 * BLOCK_LINES + i);
                let (first, second, codes) = (*words, *words.add(32), *words.add(64));
                let kept = [first, first.rotate_left(8), second, second.rotate_left(8)];
                for (part, kept) in kept.into_iter().enumerate() {
                    let exponent = w.exponents[usize::from(codes >> (4 * part) & 15)];
                    let to = to.add(block * BLOCK + 32 * part + i);
                    to.write_unaligned(kept & KEPT | exponent);
                }
            }
        }
    }
}

/// The same with vectors.
///
/// # Safety
/// As [`row`], on a machine with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512(w: &Bf12, row: usize, to: *mut u16) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch, _mm512_storeu_si512};

    let decoder = vectors::Decoder::new(&w.exponents);
    let lines = w.row(row);
    for block in 0..w.cols / BLOCK {
        // SAFETY: by this function's own contract; so many blocks are in a row.
        unsafe {
            let lines = lines.add(block * BLOCK_LINES);
            for line in 0..BLOCK_LINES {
                _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(AHEAD + line).cast());
            }
            let elements = decoder.block(lines.cast());
            for (part, elements) in elements.into_iter().enumerate() {
                _mm512_storeu_si512(to.add(block * BLOCK + 32 * part).cast(), elements);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod vectors {
    //! A block in registers.

    use std::arch::x86_64::*;

    use super::super::KEPT;

    /// What the decoding of a matrix needs beside its codes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Decoder {
        /// The exponents twice: a look-up takes five bits of a word, of which the fifth is the next
        /// element's.
        exponents: __m512i,
        kept: __m512i,
        /// Exchanges the bytes of each word.
        swap: __m512i,
    }

    impl Decoder {
        #[inline(always)]
        pub(in super::super) fn new(exponents: &[u16; 16]) -> Self {
            let mut twice = [0_u16; 32];
            twice[..16].copy_from_slice(exponents);
            twice[16..].copy_from_slice(exponents);
            let mut swap = [0_u8; 64];
            for (i, swap) in swap.iter_mut().enumerate() {
                *swap = ((i % 16) ^ 1) as u8;
            }
            // SAFETY: arrays of the size of a vector, for which any bits are a value.
            unsafe {
                Self {
                    exponents: std::mem::transmute::<[u16; 32], __m512i>(twice),
                    kept: std::mem::transmute::<[u16; 32], __m512i>([KEPT; 32]),
                    swap: std::mem::transmute::<[u8; 64], __m512i>(swap),
                }
            }
        }

        /// The elements of the block at `lines`, rare ones as zeros.
        ///
        /// # Safety
        /// The machine has AVX-512 F and BW, and the code around is compiled for them; three lines
        /// are at `lines`.
        #[inline(always)]
        pub(in super::super) unsafe fn block(&self, lines: *const u8) -> [__m512i; 4] {
            /// `(a & b) | c`.
            const KEEP: i32 = 0xea;
            // SAFETY: by this function's own contract.
            unsafe {
                let first = _mm512_loadu_si512(lines.cast());
                let second = _mm512_loadu_si512(lines.add(64).cast());
                let codes = _mm512_loadu_si512(lines.add(128).cast());
                let mut exponents = [
                    codes,
                    _mm512_srli_epi16::<4>(codes),
                    _mm512_srli_epi16::<8>(codes),
                    _mm512_srli_epi16::<12>(codes),
                ];
                for part in 0..4 {
                    exponents[part] = _mm512_permutexvar_epi16(exponents[part], self.exponents);
                }
                [
                    _mm512_ternarylogic_epi64::<KEEP>(first, self.kept, exponents[0]),
                    _mm512_ternarylogic_epi64::<KEEP>(
                        _mm512_shuffle_epi8(first, self.swap),
                        self.kept,
                        exponents[1],
                    ),
                    _mm512_ternarylogic_epi64::<KEEP>(second, self.kept, exponents[2]),
                    _mm512_ternarylogic_epi64::<KEEP>(
                        _mm512_shuffle_epi8(second, self.swap),
                        self.kept,
                        exponents[3],
                    ),
                ]
            }
        }
    }
}
