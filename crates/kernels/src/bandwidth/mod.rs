//! How fast the machine reads memory: what decoding is measured against.
//!
//! Here and not in a benchmark, since several need it: those of the kernels, and `cargo xtask bench`.

mod cuda;

use std::hint::black_box;
use std::time::Instant;

pub use cuda::best_gpu_read_rate;

use crate::Cpu;
#[cfg(target_arch = "x86_64")]
use crate::Isa;

/// The best of several passes over `bytes` with the threads of `cpu`, in bytes a second.
///
/// `bytes` should be many times larger than the caches, and each page of it written before, as
/// untouched pages are all the same one.
pub fn best_read_rate(cpu: &Cpu, bytes: &[u8]) -> f64 {
    let rate = |_| {
        let begun = Instant::now();
        read(cpu, bytes);
        bytes.len() as f64 / begun.elapsed().as_secs_f64()
    };
    (0..8).map(rate).fold(0.0, f64::max)
}

/// Reads all of `bytes`, of which threads take 64 KB at a time.
pub fn read(cpu: &Cpu, bytes: &[u8]) {
    cpu.pool().run_ranges(bytes.len(), 64 * 1024, |range| {
        #[cfg(target_arch = "x86_64")]
        if Isa::Avx512.is_available() {
            // SAFETY: the machine has it.
            black_box(unsafe { read_512(&bytes[range]) });
            return;
        }
        let words = bytes[range].chunks_exact(64);
        black_box(words.fold([0_u64; 8], |mut sum, line| {
            for (sum, word) in sum.iter_mut().zip(line.chunks_exact(8)) {
                *sum ^= u64::from_ne_bytes(word.try_into().expect("eight bytes"));
            }
            sum
        }));
    });
}

/// # Safety
/// The machine has AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn read_512(bytes: &[u8]) -> i32 {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); 8];
    for lines in bytes.chunks_exact(512) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the line is within the chunk, and what is far ahead is only asked for.
            unsafe {
                let at = lines.as_ptr().add(64 * i);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(8192).cast());
                *sum = _mm512_xor_si512(*sum, _mm512_loadu_si512(at.cast()));
            }
        }
    }
    _mm512_reduce_add_epi32(
        sums.into_iter()
            .fold(_mm512_setzero_si512(), |a, b| _mm512_xor_si512(a, b)),
    )
}
