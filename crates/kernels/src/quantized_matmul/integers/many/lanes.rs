//! Vectors of pairs of 16-bit integers.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::scales::ScaleFormat;
use super::tile::Product;
use super::weights::Panels;
use crate::gemm::Word;
use crate::isa::{Avx2, Avx512, Simd};
use crate::quantized_matmul::Quantized;

/// How a machine multiplies pairs of 16-bit integers.
pub(super) trait Lanes {
    /// As many floats as there are pairs.
    type Simd: Simd;
    /// Rows of a full tile: such that its sums, two vectors of weights, and what is multiplied fit in the registers.
    const HEIGHT: usize;
    /// See [`Word::panel_bytes`].
    const PANEL_BYTES: usize;
    /// Columns of a tile, rows of a panel.
    const WIDTH: usize = 2 * Self::Simd::LANES;

    /// No words.
    ///
    /// # Safety
    /// The machine has the instruction set, here and below.
    unsafe fn zero() -> <Self::Simd as Simd>::W;

    /// The products of a pair with each of `pairs`, added up, and to `sums`.
    ///
    /// # Safety
    /// A pair can be read.
    unsafe fn add_products(
        sums: <Self::Simd as Simd>::W,
        pair: *const u32,
        pairs: <Self::Simd as Simd>::W,
    ) -> <Self::Simd as Simd>::W;

    /// Integers as floats.
    ///
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn floats(integers: <Self::Simd as Simd>::W) -> <Self::Simd as Simd>::V;

    /// [`Panels::pack`], compiled for the instruction set.
    ///
    /// # Safety
    /// Its contract.
    unsafe fn pack<S: ScaleFormat>(panels: &Panels, w: &Quantized<'_>, range: Range<usize>);

    /// [`Product::columns`], compiled for the instruction set.
    ///
    /// # Safety
    /// Its contract.
    unsafe fn columns(product: &Product<'_>, panels: &Panels, range: Range<usize>);
}

/// AVX2: a product and an addition.
pub(super) struct Eight;

/// AVX-512 with VNNI: both in one, of twice as many.
pub(super) struct Sixteen;

impl Lanes for Eight {
    type Simd = Avx2;
    const HEIGHT: usize = 6;
    const PANEL_BYTES: usize = Word::F32.panel_bytes();

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: by the trait's contract.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn add_products(sums: __m256i, pair: *const u32, pairs: __m256i) -> __m256i {
        // SAFETY: by the trait's contract.
        unsafe {
            let pair = _mm256_set1_epi32(*pair as i32);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pair, pairs))
        }
    }

    #[inline(always)]
    unsafe fn floats(integers: __m256i) -> __m256 {
        // SAFETY: by the trait's contract.
        unsafe { _mm256_cvtepi32_ps(integers) }
    }

    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    unsafe fn pack<S: ScaleFormat>(panels: &Panels, w: &Quantized<'_>, range: Range<usize>) {
        // SAFETY: by the trait's contract.
        unsafe { panels.pack::<Self, S>(w, range) }
    }

    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    unsafe fn columns(product: &Product<'_>, panels: &Panels, range: Range<usize>) {
        // SAFETY: by the trait's contract.
        unsafe { product.columns::<Self>(panels, range) }
    }
}

impl Lanes for Sixteen {
    type Simd = Avx512;
    const HEIGHT: usize = 12;
    const PANEL_BYTES: usize = Word::Bf16Pair.panel_bytes();

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: by the trait's contract.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn add_products(sums: __m512i, pair: *const u32, pairs: __m512i) -> __m512i {
        // SAFETY: by the trait's contract.
        unsafe { _mm512_dpwssd_epi32(sums, _mm512_set1_epi32(*pair as i32), pairs) }
    }

    #[inline(always)]
    unsafe fn floats(integers: __m512i) -> __m512 {
        // SAFETY: by the trait's contract.
        unsafe { _mm512_cvtepi32_ps(integers) }
    }

    #[target_feature(
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi1,bmi2"
    )]
    unsafe fn pack<S: ScaleFormat>(panels: &Panels, w: &Quantized<'_>, range: Range<usize>) {
        // SAFETY: by the trait's contract.
        unsafe { panels.pack::<Self, S>(w, range) }
    }

    #[target_feature(
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi1,bmi2"
    )]
    unsafe fn columns(product: &Product<'_>, panels: &Panels, range: Range<usize>) {
        // SAFETY: by the trait's contract.
        unsafe { product.columns::<Self>(panels, range) }
    }
}
