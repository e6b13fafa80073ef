//! Packed codes as 16-bit integers, and their products.

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

/// A kind of code. A step of them unpacks to a few vectors of sixteen integers each, those of one 32-bit
/// lane being the same neighbouring codes in all of them.
pub(super) trait Codes {
    /// Bits of a code.
    const BITS: usize;
    /// Codes of a step.
    const STEP: usize = 256 / Self::BITS;
    /// Codes of a lane.
    const LANE: usize = Self::STEP / 8;
    /// Vectors of a step.
    const VECTORS: usize = Self::STEP / 16;
    /// Bytes of a step.
    const BYTES: usize = Self::STEP * Self::BITS / 8;
    /// Whether four rows at a time are faster than two, for which registers suffice.
    const TALL: bool;
    /// What [`Codes::products`] gives for 1 times 1.
    const UNIT: f32;
    /// The mean of all codes.
    const MIDDLE: f32;
    /// Whether [`Codes::products_of_two`] is more than twice [`Codes::products`]: else it is not asked for.
    const IN_PAIRS: bool = false;
    /// Where [`Codes::products`] finds the codes, unless they are whole fields of their bytes.
    const WINDOWS: Windows = Windows::NONE;

    /// The same, as the loops get it: of a product with powers of two that it knows, the compiler makes
    /// shifts, which AVX2 has not.
    fn windows() -> &'static Windows {
        black_box(const { &Self::WINDOWS })
    }

    /// The vector that code `i` of a lane is in, and the half of the lane there.
    #[inline(always)]
    fn place(i: usize) -> (usize, usize) {
        (i % Self::VECTORS, i / Self::VECTORS)
    }

    /// The bytes of a step.
    ///
    /// # Safety
    /// The machine has AVX2; 32 bytes can be read.
    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        // SAFETY: by this function's own contract.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    /// The products of the codes of a step with `VECTORS` vectors of `x`, added up in each lane. So many rows of `x`
    /// meet the same words.
    ///
    /// # Safety
    /// The machine has AVX2; `x` leads to so many vectors; `words` is what [`Codes::load`] gave.
    unsafe fn products<const M: usize>(windows: &Windows, words: __m256i, x: *const i16)
    -> __m256i;

    /// The same of two rows of codes, the second in the upper half.
    ///
    /// # Safety
    /// As [`Codes::products`]; the machine has AVX-512 with VNNI.
    #[inline(always)]
    unsafe fn products_of_two<const M: usize>(
        windows: &Windows,
        words: __m512i,
        x: *const i16,
    ) -> __m512i {
        // SAFETY: by this function's own contract.
        unsafe {
            let first = Self::products::<M>(windows, _mm512_castsi512_si256(words), x);
            let upper = _mm512_extracti64x4_epi64::<1>(words);
            let second = Self::products::<M>(windows, upper, x);
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second)
        }
    }
}

/// Unsigned integers of two bits.
pub(super) struct Affine2;

impl Codes for Affine2 {
    const BITS: usize = 2;
    const TALL: bool = true;
    const UNIT: f32 = 64.0;
    const MIDDLE: f32 = 1.5;

    #[inline(always)]
    unsafe fn products<const M: usize>(_: &Windows, words: __m256i, x: *const i16) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 64 * 16 * 3 * 2^15 < 2^27.
        unsafe {
            let upper = _mm256_srli_epi16::<8>(words);
            let mut sum = _mm256_setzero_si256();
            for field in 0..4 {
                // A field that stays where it is is four times as large as the one before.
                let mask = _mm256_set1_epi16(3 << (2 * field));
                let both = _mm256_add_epi32(
                    madd(_mm256_and_si256(words, mask), x, field),
                    madd(_mm256_and_si256(upper, mask), x, 4 + field),
                );
                sum = _mm256_add_epi32(_mm256_slli_epi32::<2>(sum), both);
            }
            sum
        }
    }
}

/// Unsigned integers of four bits.
pub(super) struct Affine4;

impl Codes for Affine4 {
    const BITS: usize = 4;
    const TALL: bool = false;
    const IN_PAIRS: bool = true;
    const UNIT: f32 = 16.0;
    const MIDDLE: f32 = 7.5;

    #[inline(always)]
    unsafe fn products<const M: usize>(_: &Windows, words: __m256i, x: *const i16) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 16 * 8 * 15 * 2^15 < 2^26.
        unsafe {
            let (low, high) = (_mm256_set1_epi16(0x0f), _mm256_set1_epi16(0xf0));
            let upper = _mm256_srli_epi16::<8>(words);
            // Every other code stays where it is, sixteen times as large.
            let second = madd(_mm256_and_si256(words, high), x, 1);
            let fourth = madd(_mm256_and_si256(upper, high), x, 3);
            let sixteen = _mm256_add_epi32(second, fourth);
            if M < 4 {
                let first = madd(_mm256_and_si256(words, low), x, 0);
                let third = madd(_mm256_and_si256(upper, low), x, 2);
                let once = _mm256_add_epi32(first, third);
                return _mm256_add_epi32(_mm256_slli_epi32::<4>(once), sixteen);
            }
            // What is done to the words is done once for all rows of `x`, and what is done to sums for each.
            let first = _mm256_and_si256(_mm256_slli_epi16::<4>(words), high);
            let third = _mm256_and_si256(_mm256_srli_epi16::<4>(words), high);
            let others = _mm256_add_epi32(madd(first, x, 0), madd(third, x, 2));
            _mm256_add_epi32(others, sixteen)
        }
    }

    #[inline(always)]
    unsafe fn products_of_two<const M: usize>(
        _: &Windows,
        words: __m512i,
        x: *const i16,
    ) -> __m512i {
        // SAFETY: by the trait's contract; sums as in `products`.
        unsafe {
            let high = _mm512_set1_epi16(0xf0);
            let first = _mm512_and_si512(_mm512_slli_epi16::<4>(words), high);
            let second = _mm512_and_si512(words, high);
            let third = _mm512_and_si512(_mm512_srli_epi16::<4>(words), high);
            let fourth = _mm512_and_si512(_mm512_srli_epi16::<8>(words), high);
            let sum = add_products(_mm512_setzero_si512(), first, x, 0);
            let sum = add_products(sum, second, x, 1);
            let sum = add_products(sum, third, x, 2);
            add_products(sum, fourth, x, 3)
        }
    }
}

/// Unsigned integers of eight bits.
pub(super) struct Affine8;

impl Codes for Affine8 {
    const BITS: usize = 8;
    const TALL: bool = false;
    const IN_PAIRS: bool = true;
    const UNIT: f32 = 1.0;
    const MIDDLE: f32 = 127.5;

    #[inline(always)]
    unsafe fn products<const M: usize>(_: &Windows, words: __m256i, x: *const i16) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 4 * 255 * 2^15 < 2^25.
        unsafe {
            let even = _mm256_and_si256(words, _mm256_set1_epi16(0xff));
            let odd = _mm256_srli_epi16::<8>(words);
            _mm256_add_epi32(madd(even, x, 0), madd(odd, x, 1))
        }
    }

    #[inline(always)]
    unsafe fn products_of_two<const M: usize>(
        _: &Windows,
        words: __m512i,
        x: *const i16,
    ) -> __m512i {
        // SAFETY: by the trait's contract; sums as in `products`.
        unsafe {
            let even = _mm512_and_si512(words, _mm512_set1_epi16(0xff));
            let odd = _mm512_srli_epi16::<8>(words);
            let sum = add_products(_mm512_setzero_si512(), even, x, 0);
            add_products(sum, odd, x, 1)
        }
    }
}

/// Floats of 1 sign, 2 exponent and 1 mantissa bits, which are halves of integers.
pub(super) struct Floats4;

/// Twice what each code says.
const HALVES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Codes for Floats4 {
    const BITS: usize = 4;
    const TALL: bool = true;
    const IN_PAIRS: bool = true;
    const UNIT: f32 = 512.0;
    const MIDDLE: f32 = 0.0;

    #[inline(always)]
    unsafe fn products<const M: usize>(_: &Windows, words: __m256i, x: *const i16) -> __m256i {
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

    #[inline(always)]
    unsafe fn products_of_two<const M: usize>(
        _: &Windows,
        words: __m512i,
        x: *const i16,
    ) -> __m512i {
        // SAFETY: by the trait's contract; sums as in `products`.
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(HALVES.as_ptr().cast()));
            let low = _mm512_set1_epi8(0x0f);
            let upper = _mm512_srli_epi16::<4>(words);
            let even = _mm512_shuffle_epi8(table, _mm512_and_si512(words, low));
            let odd = _mm512_shuffle_epi8(table, _mm512_and_si512(upper, low));
            let in_place = _mm512_set1_epi16(0xff00_u16 as i16);
            let sum = _mm512_setzero_si512();
            let sum = add_products(sum, _mm512_slli_epi16::<8>(even), x, 0);
            let sum = add_products(sum, _mm512_slli_epi16::<8>(odd), x, 1);
            let sum = add_products(sum, _mm512_and_si512(even, in_place), x, 2);
            add_products(sum, _mm512_and_si512(odd, in_place), x, 3)
        }
    }
}

/// Unsigned integers of a number of bits that divides no byte: three, five or six.
pub(super) struct Odd<const BITS: usize>;

/// Where codes are found in 16 bytes: for each vector, which two bytes hold it, and the power of two
/// that brings it to the top of them.
pub(super) struct Windows {
    bytes: [[u8; 32]; 4],
    factors: [[u16; 16]; 4],
}

impl Windows {
    const NONE: Self = Self {
        bytes: [[0; 32]; 4],
        factors: [[0; 16]; 4],
    };
}

impl<const BITS: usize> Odd<BITS> {
    /// Each half of a vector has a load of its own, so half a step must fit in 16 bytes.
    const STEP: usize = if BITS == 3 { 64 } else { 32 };

    const WINDOWS: Windows = {
        let mut windows = Windows::NONE;
        let lane = Self::STEP / 8;
        let mut at = 0;
        while at < Self::STEP / 2 {
            let (byte, shift) = (at * BITS / 8, at * BITS % 8);
            let (vector, word) = (at % lane / 2, at / lane * 2 + at % 2);
            let mut half = 0;
            while half < 2 {
                let to = 8 * half + word;
                windows.bytes[vector][2 * to] = byte as u8;
                windows.bytes[vector][2 * to + 1] = byte as u8 + 1;
                windows.factors[vector][to] = 1 << (16 - BITS - shift);
                half += 1;
            }
            at += 1;
        }
        windows
    };
}

impl<const BITS: usize> Codes for Odd<BITS> {
    const BITS: usize = BITS;
    const STEP: usize = Self::STEP;
    const TALL: bool = true;
    const UNIT: f32 = 1.0;
    const MIDDLE: f32 = ((1 << BITS) - 1) as f32 / 2.0;
    const WINDOWS: Windows = Self::WINDOWS;

    #[inline(always)]
    fn place(i: usize) -> (usize, usize) {
        (i / 2, i % 2)
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        // SAFETY: by the trait's contract; half a step is at most 12 bytes.
        unsafe { _mm256_loadu2_m128i(from.add(Self::BYTES / 2).cast(), from.cast()) }
    }

    #[inline(always)]
    unsafe fn products<const M: usize>(
        windows: &Windows,
        words: __m256i,
        x: *const i16,
    ) -> __m256i {
        // SAFETY: by the trait's contract. The sum of a lane is below 8 * 63 * 2^15 < 2^24.
        unsafe {
            let down = _mm_cvtsi32_si128(16 - BITS as i32);
            let mut sum = _mm256_setzero_si256();
            for vector in 0..Self::VECTORS {
                let bytes = _mm256_loadu_si256(windows.bytes[vector].as_ptr().cast());
                let factors = _mm256_loadu_si256(windows.factors[vector].as_ptr().cast());
                let windows = _mm256_shuffle_epi8(words, bytes);
                let codes = _mm256_srl_epi16(_mm256_mullo_epi16(windows, factors), down);
                sum = _mm256_add_epi32(sum, madd(codes, x, vector));
            }
            sum
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

/// The products of both halves with the vector of number `index` of `x`, pairs of them added up, and to `sums`.
///
/// # Safety
/// The machine has AVX-512 with VNNI; there is such a vector.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_products(sums: __m512i, codes: __m512i, x: *const i16, index: usize) -> __m512i {
    // SAFETY: by this function's own contract.
    unsafe {
        let x = _mm512_broadcast_i64x4(_mm256_loadu_si256(x.cast::<__m256i>().add(index)));
        let mut sums = sums;
        // Of the intrinsic LLVM makes a product and an addition, to end sooner: but many sums are under way, and two
        // take twice the place of one.
        asm!(
            "vpdpwssd {sums}, {codes}, {x}",
            sums = inout(zmm_reg) sums,
            codes = in(zmm_reg) codes,
            x = in(zmm_reg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
        sums
    }
}
