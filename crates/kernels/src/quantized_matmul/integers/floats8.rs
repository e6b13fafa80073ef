//! Weights of mxfp8: floats of eight bits, which become float32.
//!
//! Their eighteen binary places are too many for a product of 16-bit integers. But shifted by a bit they
//! are float16 with another bias of the exponent, even the smallest, and the machine widens those.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::Part;
use super::scales::{E8m0, ScaleFormat};
use crate::even_odd::{self, PAIRED};
use crate::isa::{Avx2, Float, Simd};
use crate::scratch::Shared;
use crate::stream::{self, BATCH, Place, Stream};
use crate::view::Rows;
use crate::{Cpu, View};

/// Weights that share a scale.
const GROUP: usize = 32;

/// Groups whose scales are loaded at a time.
const SCALES: usize = 8;

/// What a weight's float16 is to be multiplied by.
const BIAS: f32 = 256.0;

/// `y = x · wᵀ` for each part, all of them mxfp8; `x` is bfloat16, and the sizes fit.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    // SAFETY: the machine has AVX2, since a `Cpu` that names it, or AVX-512, could be made; rows are of
    // whole groups.
    let mut arranged = unsafe { even_odd::arrange(x) };
    let job = Job {
        x: Shared::new(arranged.as_mut_ptr()),
        x_rows: x.layout().rows,
        parts,
    };
    let rows = parts.iter().map(|part| part.w.rows());
    stream::share(cpu, parts[0].w.row_bytes(), rows, |part, range| {
        // SAFETY: as above; ranges are disjoint and within the rows.
        unsafe { job.columns(part, range) }
    });
}

/// Products with one `x`, for threads to share.
struct Job<'a> {
    /// Rows that [`even_odd::arrange`] made.
    x: Shared<f32>,
    x_rows: usize,
    parts: &'a [Part<'a>],
}

impl Job<'_> {
    /// Computes columns `range` of a part's product.
    ///
    /// # Safety
    /// The machine has AVX2. No other thread has these columns, which exist.
    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    unsafe fn columns(&self, part: usize, range: Range<usize>) {
        // SAFETY: by this function's own contract.
        unsafe { stream::blocks(self, part, range) }
    }
}

impl Stream for Job<'_> {
    type Simd = Avx2;
    const TALL: bool = false;

    fn x_rows(&self) -> usize {
        self.x_rows
    }

    fn row_bytes(&self) -> usize {
        self.parts[0].w.row_bytes()
    }

    fn y(&self, part: usize) -> Rows<'_> {
        self.parts[part].y
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) {
        let w = &self.parts[place.part].w;
        let (cols, groups) = (w.cols(), w.groups());
        // SAFETY: by the trait's contract; a weight is a byte, and groups stay within a row.
        unsafe {
            let codes = w.packed.as_ptr().add(place.row * cols);
            let far = codes.wrapping_add(place.ahead * cols);
            let scales_at = w.scale_pointers().0.add(place.row * groups);
            let x = self.x.get().add(place.m * cols).cast_const();
            let mut acc = [[Avx2::zero(); M]; R];
            for block in (0..groups).step_by(SCALES) {
                let count = (groups - block).min(SCALES);
                let mut scales = [[0.0_f32; SCALES]; R];
                for r in 0..R {
                    let loaded = E8m0::load(scales_at.add(r * groups + block), count);
                    Avx2::store_f32(scales[r].as_mut_ptr(), loaded);
                    let ahead = (place.ahead + r) * groups + block;
                    Avx2::prefetch(scales_at.wrapping_add(ahead));
                }
                for group in 0..count {
                    let first = (block + group) * GROUP;
                    for r in 0..R {
                        Avx2::prefetch(far.wrapping_add(first * R + r * GROUP));
                        let codes = codes.add(r * cols + first);
                        let mut weights = [Avx2::zero(); GROUP / 8];
                        for half in 0..2 {
                            let [even, odd] = halves(codes.add(PAIRED * half));
                            (weights[2 * half], weights[2 * half + 1]) = (even, odd);
                        }
                        let scale = Avx2::splat(scales[r][group]);
                        for i in 0..M {
                            let x = x.add(i * cols + first);
                            let mut sum = Avx2::mul(weights[0], f32::load::<Avx2>(x));
                            for v in 1..GROUP / 8 {
                                let x = f32::load::<Avx2>(x.add(8 * v));
                                sum = Avx2::mul_add(weights[v], x, sum);
                            }
                            let sum = Avx2::mul(sum, Avx2::splat(BIAS));
                            acc[r][i] = Avx2::mul_add(sum, scale, acc[r][i]);
                        }
                    }
                }
            }
            stream::sum_lanes::<Avx2, R, M>(&acc, results, at);
        }
    }
}

/// Sixteen weights, the even ones and the odd ones, as the 256th part of what they are.
///
/// # Safety
/// The machine has AVX2 and F16C; so many bytes can be read.
#[inline(always)]
unsafe fn halves(codes: *const u8) -> [__m256; 2] {
    // SAFETY: by this function's own contract.
    unsafe {
        let odd = _mm_loadu_si128(codes.cast());
        // The sign in front, and a bit further the rest: it stands once too often in between.
        let float16 = |upper: __m128i| {
            let shifted = _mm_srai_epi16::<1>(upper);
            _mm256_cvtph_ps(_mm_and_si128(shifted, _mm_set1_epi16(0xbf80_u16 as i16)))
        };
        [float16(_mm_slli_epi16::<8>(odd)), float16(odd)]
    }
}
