//! AVX-512: sixteen lanes.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Simd;
use super::simd::methods;

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Simd for Avx512 {
    type V = __m512;
    type W = __m512i;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    methods! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn where_less(a: __m512, b: __m512, x: __m512) -> __m512 {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), x)
        }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn round(a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn exp2_integer(a: __m512) -> __m512 {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
        fn sum(a: __m512) -> f32 { _mm512_reduce_add_ps(a) }
        fn sum_four(a: [__m512; 4]) -> [f32; 4] {
            // Interleave and add until each 128 bits hold a part of all four sums.
            let [a, b, c, d] = a;
            let ac = _mm512_add_ps(_mm512_unpacklo_ps(a, c), _mm512_unpackhi_ps(a, c));
            let bd = _mm512_add_ps(_mm512_unpacklo_ps(b, d), _mm512_unpackhi_ps(b, d));
            let all = _mm512_add_ps(_mm512_unpacklo_ps(ac, bd), _mm512_unpackhi_ps(ac, bd));
            let half =
                _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps::<1>(all));
            let sum =
                _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
            sums
        }
        fn max_lane(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }

        fn load_f32(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn load_f16(p: *const f16) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))
        }
        fn load_bf16(p: *const bf16) -> __m512 {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
        fn store_f32(p: *mut f32, a: __m512) { _mm512_storeu_ps(p, a) }
        fn store_f16(p: *mut f16, a: __m512) {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm256_storeu_si256(p.cast(), halves);
        }
        fn store_bf16(p: *mut bf16, a: __m512) {
            // Half of the last place kept, less one where that place is even; NaNs stay NaNs.
            let bits = _mm512_castps_si512(a);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let rounded = _mm512_mask_add_epi32(quiet, number, bits, half);
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            _mm256_storeu_si256(p.cast(), halves);
        }

        fn load_u8(p: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
        }
        fn load_words(p: *const u8) -> __m512i { _mm512_loadu_si512(p.cast()) }
        fn transpose(src: &[*const u8], dst: *mut u32, stride: usize) {
            transpose(src, dst, stride)
        }
    }

    #[inline(always)]
    unsafe fn field<const SHIFT: u32, const BITS: u32>(words: __m512i) -> __m512 {
        // SAFETY: by the trait's contract.
        unsafe {
            let field = match SHIFT + BITS {
                32 => _mm512_srl_epi32(words, _mm_cvtsi32_si128(SHIFT as i32)),
                _ => _mm512_and_si512(words, _mm512_set1_epi32(((1 << BITS) - 1) << SHIFT)),
            };
            _mm512_cvtepi32_ps(field)
        }
    }

    #[inline(always)]
    unsafe fn spread_codes<const BITS: usize>(packed: u64) -> u64 {
        // SAFETY: by the trait's contract.
        unsafe { _pdep_u64(packed, ((1 << BITS) - 1) * 0x0101_0101_0101_0101) }
    }

    #[inline(always)]
    unsafe fn spread<const COUNT: usize>(p: *const f32) -> __m512 {
        // SAFETY: by the trait's contract.
        unsafe {
            match COUNT {
                1 => _mm512_set1_ps(p.read_unaligned()),
                2 => _mm512_mask_blend_ps(
                    0xff00,
                    _mm512_set1_ps(p.read_unaligned()),
                    _mm512_set1_ps(p.add(1).read_unaligned()),
                ),
                _ => {
                    let index = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
                    let four = _mm512_castps128_ps512(_mm_loadu_ps(p));
                    _mm512_permutexvar_ps(index, four)
                }
            }
        }
    }
}

/// # Safety
/// As [`Simd::transpose`].
#[inline(always)]
unsafe fn transpose(src: &[*const u8], dst: *mut u32, stride: usize) {
    // SAFETY: by this function's own contract.
    unsafe {
        let zero = _mm512_setzero_si512();
        let (mut a, mut b) = ([zero; 16], [zero; 16]);
        for i in 0..16 {
            a[i] = _mm512_loadu_si512(src[i].cast());
        }
        // Pairs of words, then pairs of those, within lanes of 128 bits.
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..4 {
            a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
            a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
        }
        // Then the lanes: a[4 * i + j] has column 4 * lane + j of rows 4 * i .. 4 * i + 4.
        for j in 0..4 {
            b[j] = _mm512_shuffle_i32x4::<0x88>(a[j], a[4 + j]);
            b[4 + j] = _mm512_shuffle_i32x4::<0xdd>(a[j], a[4 + j]);
            b[8 + j] = _mm512_shuffle_i32x4::<0x88>(a[8 + j], a[12 + j]);
            b[12 + j] = _mm512_shuffle_i32x4::<0xdd>(a[8 + j], a[12 + j]);
        }
        for j in 0..4 {
            a[j] = _mm512_shuffle_i32x4::<0x88>(b[j], b[8 + j]);
            a[4 + j] = _mm512_shuffle_i32x4::<0x88>(b[4 + j], b[12 + j]);
            a[8 + j] = _mm512_shuffle_i32x4::<0xdd>(b[j], b[8 + j]);
            a[12 + j] = _mm512_shuffle_i32x4::<0xdd>(b[4 + j], b[12 + j]);
        }
        for i in 0..16 {
            _mm512_storeu_si512(dst.add(i * stride).cast(), a[i]);
        }
    }
}
