//! From codes to bfloat16.

use super::{BLOCK, BLOCK_LINES, Bf12, LINE, byte_of};
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
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(w, row, to),
            _ => plain(w, row, to),
        }
        for rare in w.rare(row) {
            to.add(rare.col as usize).write_unaligned(rare.bits);
        }
    }
}

/// All but the rare elements of a row, one by one.
///
/// # Safety
/// As [`row`].
unsafe fn plain(w: &Bf12, row: usize, to: *mut u16) {
    let bytes = w.row(row).cast::<u8>();
    for block in 0..w.cols / BLOCK {
        for i in 0..LINE {
            // SAFETY: by this function's own contract; so many bytes are in a block.
            unsafe {
                let from = bytes.add(block * BLOCK_LINES * LINE + byte_of(i));
                let codes = *from.add(2 * LINE);
                let codes = [codes & 15, codes >> 4];
                for (line, code) in codes.into_iter().enumerate() {
                    let element = [*from.add(line * LINE), w.high[usize::from(code)]];
                    let to = to.add(block * BLOCK + line * LINE + i);
                    to.write_unaligned(u16::from_le_bytes(element));
                }
            }
        }
    }
}

/// The same with vectors of 64 bytes.
///
/// # Safety
/// As [`row`], on a machine with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512(w: &Bf12, row: usize, to: *mut u16) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch, _mm512_storeu_si512};

    // SAFETY: by this function's own contract.
    let decoder = unsafe { super::lines::Wide::new(&w.high) };
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

/// The same with vectors of 32 bytes.
///
/// # Safety
/// As [`row`], on a machine with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2(w: &Bf12, row: usize, to: *mut u16) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch, _mm256_storeu_si256};

    // SAFETY: by this function's own contract.
    let decoder = unsafe { super::lines::Narrow::new(&w.high) };
    let lines = w.row(row);
    for block in 0..w.cols / BLOCK {
        // SAFETY: by this function's own contract; so many blocks are in a row.
        unsafe {
            let lines = lines.add(block * BLOCK_LINES);
            for line in 0..BLOCK_LINES {
                _mm_prefetch::<_MM_HINT_T0>(lines.wrapping_add(AHEAD + line).cast());
            }
            for half in 0..2 {
                let elements = decoder.half(lines.cast(), half);
                for (part, elements) in elements.into_iter().enumerate() {
                    let at = block * BLOCK + 32 * part + 16 * half;
                    _mm256_storeu_si256(to.add(at).cast(), elements);
                }
            }
        }
    }
}
