//! AVX2 with FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Simd;
use super::simd::methods;

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

impl Simd for Avx2 {
    type V = __m256;
    type W = __m256i;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    methods! {
        fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
        fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        fn where_less(a: __m256, b: __m256, x: __m256) -> __m256 {
            _mm256_and_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b), x)
        }
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        fn round(a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        fn exp2_integer(a: __m256) -> __m256 {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
        fn sum(a: __m256) -> f32 {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
        fn sum_four(a: [__m256; 4]) -> [f32; 4] {
            let [a, b, c, d] = a;
            let all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let sum = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), sum);
            sums
        }
        fn max_lane(a: __m256) -> f32 {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }

        fn load_f32(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
        fn load_f16(p: *const f16) -> __m256 { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
        fn load_bf16(p: *const bf16) -> __m256 {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
        fn store_f32(p: *mut f32, a: __m256) { _mm256_storeu_ps(p, a) }
        fn store_f16(p: *mut f16, a: __m256) {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a);
            _mm_storeu_si128(p.cast(), halves);
        }
        fn store_bf16(p: *mut bf16, a: __m256) {
            // Half of the last place kept, less one where that place is even; NaNs stay NaNs.
            let bits = _mm256_castps_si256(a);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_castsi256_ps(_mm256_add_epi32(bits, half));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let number = _mm256_cmp_ps::<_CMP_ORD_Q>(a, a);
            let chosen = _mm256_blendv_ps(_mm256_castsi256_ps(quiet), rounded, number);
            let words = _mm256_srli_epi32::<16>(_mm256_castps_si256(chosen));
            let packed = _mm256_packus_epi32(words, words);
            let halves = _mm256_permute4x64_epi64::<0b1000>(packed);
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(halves));
        }

        fn load_u8(p: *const u8) -> __m256 {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())))
        }
        fn load_words(p: *const u8) -> __m256i { _mm256_loadu_si256(p.cast()) }
        fn transpose(src: &[*const u8], dst: *mut u32, stride: usize) {
            transpose(src, dst, stride)
        }
    }

    #[inline(always)]
    unsafe fn field<const SHIFT: u32, const BITS: u32>(words: __m256i) -> __m256 {
        // SAFETY: by the trait's contract.
        unsafe {
            let field = match SHIFT + BITS {
                32 => _mm256_srl_epi32(words, _mm_cvtsi32_si128(SHIFT as i32)),
                _ => _mm256_and_si256(words, _mm256_set1_epi32(((1 << BITS) - 1) << SHIFT)),
            };
            _mm256_cvtepi32_ps(field)
        }
    }

    #[inline(always)]
    unsafe fn spread_codes<const BITS: usize>(packed: u64) -> u64 {
        // SAFETY: by the trait's contract.
        unsafe { _pdep_u64(packed, ((1 << BITS) - 1) * 0x0101_0101_0101_0101) }
    }

    #[inline(always)]
    unsafe fn spread<const COUNT: usize>(p: *const f32) -> __m256 {
        // SAFETY: by the trait's contract.
        unsafe {
            let first = _mm256_set1_ps(p.read_unaligned());
            match COUNT {
                1 => first,
                _ => {
                    let second = _mm256_set1_ps(p.add(1).read_unaligned());
                    _mm256_blend_ps::<0xf0>(first, second)
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
        let zero = _mm256_setzero_si256();
        let (mut a, mut b) = ([zero; 8], [zero; 8]);
        for i in 0..8 {
            a[i] = _mm256_loadu_si256(src[i].cast());
        }
        for i in 0..4 {
            b[2 * i] = _mm256_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm256_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..2 {
            a[4 * i] = _mm256_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 1] = _mm256_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
            a[4 * i + 2] = _mm256_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
            a[4 * i + 3] = _mm256_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
        }
        for j in 0..4 {
            let low = _mm256_permute2x128_si256::<0x20>(a[j], a[4 + j]);
            let high = _mm256_permute2x128_si256::<0x31>(a[j], a[4 + j]);
            _mm256_storeu_si256(dst.add(j * stride).cast(), low);
            _mm256_storeu_si256(dst.add((4 + j) * stride).cast(), high);
        }
    }
}
