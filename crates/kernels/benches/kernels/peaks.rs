//! What the machine can do: reading memory, multiplying, forking.

use std::hint::black_box;
use std::time::Duration;

pub(crate) use kernels::bandwidth::read;
use kernels::{Cpu, Isa};

use crate::Run;
use crate::timing::Times;

/// Floating-point operations of the best multiply instruction in one call of [`multiply`].
const ROUNDS: usize = 100_000;

/// GFLOP/s of the best instruction that the instruction set has for float32 sums: of bfloat16
/// products where it has them.
pub(crate) fn multiply(cpu: &Cpu, pairs: bool) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let lanes = match cpu.isa() {
            Isa::Avx512 | Isa::Avx512Bf16 => 16,
            Isa::Avx2 => 8,
            _ => return None,
        };
        let pairs = pairs && cpu.isa() == Isa::Avx512Bf16;
        let threads = cpu.pool().threads();
        let times = Times::of(Duration::from_millis(100), || {
            // SAFETY: a `Cpu` of that instruction set could be made.
            cpu.pool().run(threads, |_| unsafe {
                match (lanes, pairs) {
                    (16, true) => pairs_512(),
                    (16, false) => fma_512(),
                    _ => fma_256(),
                }
            });
        });
        let operations = (if pairs { 4 } else { 2 }) * lanes * 24 * ROUNDS * threads;
        Some(operations as f64 / times.percentile(10) / 1e9)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (cpu, pairs);
        None
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! multiply {
    ($name:ident, $feature:literal, $zero:expr, $class:ident, |$sum:ident| $step:expr) => {
        /// # Safety
        /// The machine has the instruction.
        #[target_feature(enable = $feature)]
        unsafe fn $name() {
            use std::arch::x86_64::*;
            let mut sums = [$zero; 24];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    let $sum = *sum;
                    *sum = $step;
                }
                for sum in &mut sums {
                    // SAFETY: it does nothing, of which the compiler knows nothing.
                    unsafe {
                        std::arch::asm!("/* {0} */", inout($class) * sum, options(nomem, nostack))
                    };
                }
            }
            black_box(sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
multiply!(fma_256, "avx2,fma", _mm256_setzero_ps(), ymm_reg, |sum| {
    _mm256_fmadd_ps(_mm256_set1_ps(1.5), _mm256_set1_ps(0.5), sum)
});
#[cfg(target_arch = "x86_64")]
multiply!(fma_512, "avx512f", _mm512_setzero_ps(), zmm_reg, |sum| {
    _mm512_fmadd_ps(_mm512_set1_ps(1.5), _mm512_set1_ps(0.5), sum)
});
#[cfg(target_arch = "x86_64")]
multiply!(
    pairs_512,
    "avx512f,avx512bf16",
    _mm512_setzero_ps(),
    zmm_reg,
    |sum| {
        let ones = _mm512_set1_epi32(0x3f80_3f80);
        // SAFETY: two vectors of one size, for both of which any bits are a value.
        let ones = unsafe { std::mem::transmute::<__m512i, __m512bh>(ones) };
        _mm512_dpbf16_ps(sum, ones, ones)
    }
);

/// A block larger than any cache, every page of it touched.
pub(crate) fn large() -> Vec<u8> {
    (0..256_usize << 20).map(|i| (i >> 6) as u8).collect()
}

pub(crate) fn report(run: &Run) {
    if !run.wants("peaks") {
        return;
    }
    let bytes = large();
    let most = run.cpu.pool().threads();
    for threads in 1..=most {
        run.cpu.pool().set_threads(threads);
        let mut times = Times::default();
        for _ in 0..4 {
            for block in bytes.chunks(8 << 20) {
                times.add(|| read(&run.cpu, block));
            }
        }
        let (median, quick) = times.rates((8 << 20) as f64);
        println!("peaks: read, {threads} threads: {median:.1} GB/s, at best {quick:.1}");
        let fork = Times::of(Duration::from_millis(50), || {
            run.cpu.pool().run(threads, |_| ())
        });
        let (median, quick) = (fork.percentile(50) * 1e6, fork.percentile(10) * 1e6);
        println!("peaks: fork and join, {threads} threads: {median:.2} us, at best {quick:.2}");
        for (name, pairs) in [("bfloat16 pairs", true), ("float32", false)] {
            if let Some(rate) = multiply(&run.cpu, pairs) {
                println!("peaks: multiply {name}, {threads} threads: {rate:.0} GFLOP/s");
            }
        }
    }
}
