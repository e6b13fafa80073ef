//! What the machine can do: reading memory, multiplying, forking.

use std::hint::black_box;
use std::time::Duration;

pub(crate) use kernels::bandwidth::read;
use kernels::{Cpu, Isa};

use crate::Run;
use crate::timing::Times;

/// How often [`multiply`] adds to each of its sums in one call.
const ROUNDS: usize = 100_000;

/// GFLOP/s of the best instruction that the instruction set has for float32 sums: of bfloat16
/// products where it has them.
pub(crate) fn multiply(cpu: &Cpu, pairs: bool) -> Option<f64> {
    // Of a round, and a function of many.
    let (operations, rounds): (usize, unsafe fn()) = match (cpu.isa(), pairs) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, true) => (24 * 4 * 16, pairs_512),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx512Bf16, _) => (24 * 2 * 16, fma_512),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => (12 * 2 * 8, fma_256),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, _) => (24 * 2 * 4, fma_128),
        _ => return None,
    };
    let threads = cpu.pool().threads();
    let times = Times::of(Duration::from_millis(100), || {
        // SAFETY: a `Cpu` of that instruction set could be made.
        cpu.pool().run(threads, |_| unsafe { rounds() });
    });
    Some((operations * ROUNDS * threads) as f64 / times.percentile(10) / 1e9)
}

/// `$count` sums that do not wait for each other, and leave registers for what is multiplied.
macro_rules! multiply {
    ($arch:ident, $name:ident, $feature:literal, $count:literal x $zero:expr, $class:ident $shown:literal,
     |$sum:ident| $step:expr) => {
        /// # Safety
        /// The machine has the instruction.
        #[target_feature(enable = $feature)]
        unsafe fn $name() {
            use std::arch::$arch::*;
            let mut sums = [$zero; $count];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    let $sum = *sum;
                    *sum = $step;
                }
                for sum in &mut sums {
                    // SAFETY: it does nothing, of which the compiler knows nothing.
                    unsafe {
                        std::arch::asm!($shown, inout($class) * sum, options(nomem, nostack))
                    };
                }
            }
            black_box(sums);
        }
    };
}

#[cfg(target_arch = "aarch64")]
multiply!(aarch64, fma_128, "neon", 24 x vdupq_n_f32(0.0), vreg "/* {0:v} */", |sum| {
    vfmaq_f32(sum, vdupq_n_f32(1.5), vdupq_n_f32(0.5))
});
#[cfg(target_arch = "x86_64")]
multiply!(
    x86_64,
    fma_256,
    "avx2,fma",
    12 x _mm256_setzero_ps(),
    ymm_reg "/* {0} */",
    |sum| _mm256_fmadd_ps(_mm256_set1_ps(1.5), _mm256_set1_ps(0.5), sum)
);
#[cfg(target_arch = "x86_64")]
multiply!(
    x86_64,
    fma_512,
    "avx512f",
    24 x _mm512_setzero_ps(),
    zmm_reg "/* {0} */",
    |sum| _mm512_fmadd_ps(_mm512_set1_ps(1.5), _mm512_set1_ps(0.5), sum)
);
#[cfg(target_arch = "x86_64")]
multiply!(
    x86_64,
    pairs_512,
    "avx512f,avx512bf16",
    24 x _mm512_setzero_ps(),
    zmm_reg "/* {0} */",
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
