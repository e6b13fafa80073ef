//! What a tile does with words.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx512;
use crate::isa::Simd;

/// Multiplication and addition of vectors of words.
///
/// # Safety
/// The methods are under [`Simd`]'s contract, for the instruction set of the implementation.
#[allow(
    clippy::missing_safety_doc,
    reason = "it is the same for all, and stands above"
)]
pub(crate) trait Arith {
    /// For everything but words.
    type Simd: Simd;
    /// A vector of words.
    type Words: Copy;
    /// Rows of a tile: such that `HEIGHT * VECTORS` sums, `VECTORS` operands and a broadcast one
    /// fit into the registers, and hide the latency of an addition.
    const HEIGHT: usize;
    /// Vectors of a tile's row.
    const VECTORS: usize;

    unsafe fn load(p: *const u32) -> Self::Words;
    unsafe fn broadcast(p: *const u32) -> Self::Words;
    /// `sum` plus the products of the elements of each word.
    unsafe fn add_products(
        a: Self::Words,
        b: Self::Words,
        sum: <Self::Simd as Simd>::V,
    ) -> <Self::Simd as Simd>::V;
}

/// A word is a float32.
pub(crate) struct F32<S>(PhantomData<S>);

impl<S: Simd> Arith for F32<S> {
    type Simd = S;
    type Words = S::V;
    const HEIGHT: usize = match S::REGISTERS {
        32.. => 12,
        16.. => 6,
        _ => 2,
    };
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn load(p: *const u32) -> S::V {
        // SAFETY: by the trait's contract.
        unsafe { S::load_f32(p.cast()) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> S::V {
        // SAFETY: by the trait's contract.
        unsafe { S::splat(*p.cast()) }
    }
    #[inline(always)]
    unsafe fn add_products(a: S::V, b: S::V, sum: S::V) -> S::V {
        // SAFETY: by the trait's contract.
        unsafe { S::mul_add(a, b, sum) }
    }
}

/// A word is a pair of bfloat16.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Bf16Pairs;

#[cfg(target_arch = "x86_64")]
impl Arith for Bf16Pairs {
    type Simd = Avx512;
    type Words = __m512bh;
    const HEIGHT: usize = 12;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn load(p: *const u32) -> __m512bh {
        // SAFETY: by the trait's contract; any bits are a value of both types.
        unsafe { std::mem::transmute(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn broadcast(p: *const u32) -> __m512bh {
        // SAFETY: by the trait's contract; any bits are a value of both types.
        unsafe { std::mem::transmute(_mm512_set1_epi32(*p.cast())) }
    }
    #[inline(always)]
    unsafe fn add_products(a: __m512bh, b: __m512bh, sum: __m512) -> __m512 {
        // SAFETY: by the trait's contract.
        unsafe { _mm512_dpbf16_ps(sum, a, b) }
    }
}
