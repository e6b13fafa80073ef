//! Packed codes as 16-bit integers, and their products.

use std::arch::x86_64::*;

/// A kind of code. 32 bytes of codes unpack to a few vectors of sixteen integers each; the codes of
/// four neighbouring bytes come to lie in one 32-bit lane of all of them.
pub(super) trait Codes {
    /// Bits of a code.
    const BITS: usize;
    /// Vectors that 32 bytes unpack to.
    const VECTORS: usize = 16 / Self::BITS;
    /// How eight consecutive elements come to lie: these pairs, the first `VECTORS` of them in a
    /// lane of one vector each, the others in the next lane.
    const PAIRS: [[usize; 2]; 4];
    /// What [`Codes::products`] gives for 1 times 1.
    const UNIT: f32;
    /// The mean of all codes.
    const MIDDLE: f32;

    /// The products of the codes in `words` with `VECTORS` vectors of `x`, added up in each lane.
    ///
    /// # Safety
    /// The machine has AVX2; `x` leads to so many vectors.
    unsafe fn products(words: __m256i, x: *const i16) -> __m256i;
}

/// Unsigned integers of four bits.
pub(super) struct Affine4;

impl Codes for Affine4 {
    const BITS: usize = 4;
    const PAIRS: [[usize; 2]; 4] = [[0, 4], [1, 5], [2, 6], [3, 7]];
    const UNIT: f32 = 16.0;
    const MIDDLE: f32 = 7.5;

    #[inline(always)]
    unsafe fn products(words: __m256i, x: *const i16) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 16 * 8 * 15 * 2^15 < 2^26.
        unsafe {
            let (low, high) = (_mm256_set1_epi16(0x0f), _mm256_set1_epi16(0xf0));
            let upper = _mm256_srli_epi16::<8>(words);
            // Every other code stays where it is, sixteen times as large.
            let once = _mm256_add_epi32(
                madd(_mm256_and_si256(words, low), x, 0),
                madd(_mm256_and_si256(upper, low), x, 2),
            );
            let sixteen = _mm256_add_epi32(
                madd(_mm256_and_si256(words, high), x, 1),
                madd(_mm256_and_si256(upper, high), x, 3),
            );
            _mm256_add_epi32(_mm256_slli_epi32::<4>(once), sixteen)
        }
    }
}

/// Unsigned integers of eight bits.
pub(super) struct Affine8;

impl Codes for Affine8 {
    const BITS: usize = 8;
    const PAIRS: [[usize; 2]; 4] = [[0, 2], [1, 3], [4, 6], [5, 7]];
    const UNIT: f32 = 1.0;
    const MIDDLE: f32 = 127.5;

    #[inline(always)]
    unsafe fn products(words: __m256i, x: *const i16) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 4 * 255 * 2^15 < 2^25.
        unsafe {
            let even = _mm256_and_si256(words, _mm256_set1_epi16(0xff));
            let odd = _mm256_srli_epi16::<8>(words);
            _mm256_add_epi32(madd(even, x, 0), madd(odd, x, 1))
        }
    }
}

/// Floats of 1 sign, 2 exponent and 1 mantissa bits, which are halves of integers.
pub(super) struct Floats4;

/// Twice what each code says.
const HALVES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Codes for Floats4 {
    const BITS: usize = 4;
    const PAIRS: [[usize; 2]; 4] = Affine4::PAIRS;
    const UNIT: f32 = 512.0;
    const MIDDLE: f32 = 0.0;

    #[inline(always)]
    unsafe fn products(words: __m256i, x: *const i16) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 8 * 256 * 12 * 2^15 < 2^30.
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(HALVES.as_ptr().cast()));
            let low = _mm256_set1_epi8(0x0f);
            let upper = _mm256_srli_epi16::<4>(words);
            let even = _mm256_shuffle_epi8(table, _mm256_and_si256(words, low));
            let odd = _mm256_shuffle_epi8(table, _mm256_and_si256(upper, low));
            // A byte in the upper half of 16 bits is a signed integer, 256 times as large.
            let in_place = _mm256_set1_epi16(0xff00_u16 as i16);
            _mm256_add_epi32(
                _mm256_add_epi32(
                    madd(_mm256_slli_epi16::<8>(even), x, 0),
                    madd(_mm256_slli_epi16::<8>(odd), x, 1),
                ),
                _mm256_add_epi32(
                    madd(_mm256_and_si256(even, in_place), x, 2),
                    madd(_mm256_and_si256(odd, in_place), x, 3),
                ),
            )
        }
    }
}

/// The products of a vector with that of number `index` of `x`, pairs of them added up.
///
/// # Safety
/// The machine has AVX2; there is such a vector.
#[inline(always)]
unsafe fn madd(codes: __m256i, x: *const i16, index: usize) -> __m256i {
    // SAFETY: by this function's own contract.
    unsafe { _mm256_madd_epi16(codes, _mm256_loadu_si256(x.cast::<__m256i>().add(index))) }
}
