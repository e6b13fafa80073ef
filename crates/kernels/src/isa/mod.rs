//! Instruction sets: which this machine has, and how one source serves them all.
//!
//! A kernel is written once, generic over [`Simd`], as a [`Kernel`]. [`dispatch`] enters it
//! through a function compiled for the wanted instruction set, and everything that it calls is
//! `#[inline(always)]`, so the whole kernel is compiled for that set: one branch a call, none an
//! element. Where an instruction has no counterpart elsewhere (the bfloat16 dot product of
//! AVX-512), an operation has a file of its own for it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod simd;
#[cfg(test)]
mod tests;

use std::str::FromStr;
use std::sync::OnceLock;

use crate::{Error, Result};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use float::{Float, with_float};
pub(crate) use math::{exp, sigmoid};
pub(crate) use simd::Simd;

/// The environment variable that names an instruction set to use instead of the best one, for tests and
/// measurements of the others.
const VARIABLE: &str = "MLX_BACKEND_ISA";

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Whatever the compiler's target has: SSE2 on x86-64.
    Portable,
    /// AArch64's Advanced SIMD.
    Neon,
    /// AVX2 with FMA, F16C and BMI2: x86-64-v3.
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL: x86-64-v4.
    Avx512,
    /// [`Isa::Avx512`] with the bfloat16 dot product, VBMI and GFNI: Zen 4, Sapphire Rapids and later.
    Avx512Bf16,
}

impl Isa {
    /// Every instruction set, from the plainest to the one with most.
    pub const ALL: [Isa; 5] = [
        Isa::Portable,
        Isa::Neon,
        Isa::Avx2,
        Isa::Avx512,
        Isa::Avx512Bf16,
    ];

    /// The fastest one this machine has. It is found once.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let is_fast = |isa: &Isa| *isa != Isa::Avx512Bf16 || !dots_are_slow();
            Self::available()
                .filter(is_fast)
                .last()
                .unwrap_or(Isa::Portable)
        })
    }

    /// The one that the environment variable `MLX_BACKEND_ISA` names, or else the best.
    ///
    /// # Errors
    /// [`Error::IsaName`] where it names none, [`Error::Isa`] where the machine lacks it.
    pub fn chosen() -> Result<Isa> {
        match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => {
                let isa: Isa = name.to_string_lossy().parse()?;
                let has = isa.is_available();
                has.then_some(isa).ok_or(Error::Isa(isa))
            }
            _ => Ok(Self::best()),
        }
    }

    /// Its name, as `MLX_BACKEND_ISA` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Those this machine has, from the plainest to the best.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this machine, and its operating system, can run it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => {
                Isa::Avx512.is_available()
                    && is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("gfni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => false,
        }
    }
}

/// Whether dot products of bfloat16 take longer than those of float32. On Intel's cores, which leave them to AMX, one
/// takes as long as five products of as many 16-bit integers (Emerald Rapids: 75 GFLOP/s and 350, and of float32 170).
fn dots_are_slow() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx]
            .map(u32::to_le_bytes)
            .as_flattened()
            == b"GenuineIntel"
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl FromStr for Isa {
    type Err = Error;

    /// By its [`name`](Isa::name), in letters of any case.
    fn from_str(name: &str) -> Result<Isa> {
        let named = |isa: &Isa| isa.name().eq_ignore_ascii_case(name);
        let found = Self::ALL.into_iter().find(named);
        found.ok_or_else(|| Error::IsaName(name.to_owned()))
    }
}

/// Work that is written once for every instruction set.
pub(crate) trait Kernel {
    /// What it gives back.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, and so is all that they call in a
    /// hot loop; closures in there are not inlined reliably and have no place in it.
    ///
    /// # Safety
    /// The machine has the instruction set of `S`, and whatever the implementation asks for.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs `kernel` compiled for `isa`.
///
/// # Safety
/// The machine has `isa`, and what `kernel` asks for holds.
#[inline]
pub(crate) unsafe fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    // SAFETY: by this function's own contract; each entry is called for its instruction set only.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => on_avx2(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => on_avx512(kernel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel.run::<neon::Neon>(),
            _ => kernel.run::<portable::Portable>(),
        }
    }
}

/// # Safety
/// As [`dispatch`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
unsafe fn on_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: by this function's own contract.
    unsafe { kernel.run::<Avx2>() }
}

/// # Safety
/// As [`dispatch`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn on_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: by this function's own contract.
    unsafe { kernel.run::<Avx512>() }
}
