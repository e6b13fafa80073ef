//! How a row of weights is read and multiplied, a vector at a time.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use half::bf16;

#[cfg(target_arch = "x86_64")]
use crate::isa::Avx512;
use crate::isa::{Float, Simd};

/// # Safety
/// The methods are under [`Simd`]'s contract, for the instruction set of the implementation.
#[allow(
    clippy::missing_safety_doc,
    reason = "it is the same for all, and stands above"
)]
pub(super) trait Lanes {
    /// For sums.
    type Simd: Simd;
    /// An element of the weights.
    type Weight: Float;
    /// A vector of them.
    type Vector: Copy;
    /// Elements of a vector; at most 32.
    const STEP: usize;
    /// Bytes of an element of `x`.
    const X_SIZE: usize;

    unsafe fn load(p: *const Self::Weight) -> Self::Vector;
    /// The first `n` elements; the others are zero.
    unsafe fn load_first(p: *const Self::Weight, n: usize) -> Self::Vector;
    /// `sum` plus the products with the elements of `x`.
    unsafe fn add_products(
        w: Self::Vector,
        x: *const u8,
        sum: <Self::Simd as Simd>::V,
    ) -> <Self::Simd as Simd>::V;
}

/// Weights become float32, and `x` is float32.
pub(super) struct Widen<S, T>(PhantomData<(S, T)>);

impl<S: Simd, T: Float> Lanes for Widen<S, T> {
    type Simd = S;
    type Weight = T;
    type Vector = S::V;
    const STEP: usize = S::LANES;
    const X_SIZE: usize = 4;

    #[inline(always)]
    unsafe fn load(p: *const T) -> S::V {
        // SAFETY: by the trait's contract.
        unsafe { T::load::<S>(p) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const T, n: usize) -> S::V {
        // SAFETY: by the trait's contract.
        unsafe { T::load_first::<S>(p, n) }
    }
    #[inline(always)]
    unsafe fn add_products(w: S::V, x: *const u8, sum: S::V) -> S::V {
        // SAFETY: by the trait's contract.
        unsafe { S::mul_add(w, S::load_f32(x.cast()), sum) }
    }
}

/// Weights and `x` are bfloat16, multiplied in pairs.
#[cfg(target_arch = "x86_64")]
pub(super) struct Pairs;

#[cfg(target_arch = "x86_64")]
impl Lanes for Pairs {
    type Simd = Avx512;
    type Weight = bf16;
    type Vector = __m512i;
    const STEP: usize = 32;
    const X_SIZE: usize = 2;

    #[inline(always)]
    unsafe fn load(p: *const bf16) -> __m512i {
        // SAFETY: by the trait's contract.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const bf16, n: usize) -> __m512i {
        // SAFETY: by the trait's contract; lanes without a bit are not touched.
        unsafe { _mm512_maskz_loadu_epi16(((1_u64 << n) - 1) as u32, p.cast()) }
    }
    #[inline(always)]
    unsafe fn add_products(w: __m512i, x: *const u8, sum: __m512) -> __m512 {
        // SAFETY: by the trait's contract; any bits are a value of both types.
        unsafe {
            let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(x.cast()));
            _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512i, __m512bh>(w), x)
        }
    }
}
