//! The exponential and what is made of it, vectorised.

use super::Simd;

/// Beyond this, e to the power of x leaves the normal numbers; see [`exp`].
const LARGEST: f32 = 88.376;
/// At this the power of two rounds to 2^-127, which `exp2_integer` makes a zero.
const SMALLEST: f32 = -88.02;

/// e to the power of each lane, with a relative error below 3e-7 for lanes in -87.3..=88.3.
/// Below -87.7 (negative infinity included) it is zero, above 88.3 about 2.4e38. A NaN stays one.
///
/// # Safety
/// [`Simd`]'s contract.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: by this function's own contract.
    unsafe {
        // The order of the arguments lets a NaN through.
        let x = S::max(S::splat(SMALLEST), S::min(S::splat(LARGEST), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first of which times n is exact.
        let r = S::mul_add(n, S::splat(-0.693_359_4), x);
        let r = S::mul_add(n, S::splat(2.121_944_4e-4), r);
        // e^r for |r| <= ln(2) / 2 by its series: what it leaves out is below 6e-9.
        let mut p = S::splat(1.0 / 5040.0);
        for c in [
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ] {
            p = S::mul_add(p, r, S::splat(c));
        }
        S::mul(p, S::exp2_integer(n))
    }
}

/// 1 / (1 + e^-x), with a relative error below 1e-6 for lanes above -87.3.
///
/// # Safety
/// [`Simd`]'s contract.
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: by this function's own contract.
    unsafe {
        let e = exp::<S>(S::sub(S::zero(), x));
        S::div(S::splat(1.0), S::add(S::splat(1.0), e))
    }
}
