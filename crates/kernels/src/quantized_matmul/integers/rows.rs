//! The product of some rows of weights with some rows of `x`.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::super::format::MAX_VECTORS;
use super::super::{Format, Part};
use super::arrange::{Arranged, Places, spans};
use super::codes::{Codes, Windows};
use super::pairs::OfGroups;
use super::scales::{ScaleFormat, load_scales};
use super::steps::Pointers;
use crate::isa::{Avx2, Simd};
use crate::scratch::{Scratch, Shared};
use crate::stream::{self, BATCH, Place, Stream};
use crate::view::Rows;

/// Bytes behind the last row that a step may read: it begins within a row, and loads no more than this.
const SLACK: usize = size_of::<__m256i>();

/// Products with one `x`, for threads to share.
pub(super) struct Job<'a> {
    pub(super) format: Format,
    /// See [`lane_groups`](super::super::format::lane_groups).
    pub(super) order: [[i32; 8]; MAX_VECTORS],
    pub(super) arranged: &'a Arranged,
    /// Weights, all of one kind.
    pub(super) parts: &'a [Part<'a>],
}

impl Job<'_> {
    /// Computes columns `range` of a part's product.
    ///
    /// # Safety
    /// The machine has AVX2. No other thread has these columns, which exist. The codes of the weights
    /// are `C`, and their scales `S`.
    #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2")]
    pub(super) unsafe fn columns<C: Codes, S: ScaleFormat>(
        &self,
        part: usize,
        range: Range<usize>,
    ) {
        // SAFETY: by this function's own contract.
        unsafe { self.by_spans::<C, S, false>(part, range) }
    }

    /// The same, two rows of weights in a vector.
    ///
    /// # Safety
    /// As [`Job::columns`]; the machine has AVX-512 with VNNI.
    #[target_feature(
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,bmi1,bmi2"
    )]
    pub(super) unsafe fn columns_of_pairs<C: Codes, S: ScaleFormat>(
        &self,
        part: usize,
        range: Range<usize>,
    ) {
        // SAFETY: by this function's own contract.
        unsafe { self.by_spans::<C, S, true>(part, range) }
    }

    /// # Safety
    /// As [`Job::columns`], or that of pairs.
    #[inline(always)]
    unsafe fn by_spans<C: Codes, S: ScaleFormat, const PAIRS: bool>(
        &self,
        part: usize,
        range: Range<usize>,
    ) {
        // SAFETY: by this function's own contract.
        unsafe {
            match spans::<C>(self.format.group_size()) {
                1 if S::AFFINE => self.stream::<C, S, 1, PAIRS>(part, range),
                2 if S::AFFINE => self.stream::<C, S, 2, PAIRS>(part, range),
                spans => {
                    debug_assert_eq!(spans, 0, "`x` was arranged for spans");
                    self.stream::<C, S, 0, PAIRS>(part, range)
                }
            }
        }
    }

    /// # Safety
    /// As [`Job::columns`]; `SPANS` is what [`spans`] says.
    #[inline(always)]
    unsafe fn stream<C: Codes, S: ScaleFormat, const SPANS: usize, const PAIRS: bool>(
        &self,
        part: usize,
        range: Range<usize>,
    ) {
        let w = &self.parts[part].w;
        let (scales, biases) = w.scale_pointers();
        let shared = |bytes: *const u8| Shared::new(bytes.cast_mut());
        let packed = Packed::<C, S, SPANS, PAIRS> {
            job: self,
            places: self.arranged.places(),
            codes: shared(w.packed.as_ptr()),
            scales: shared(scales),
            biases: shared(biases),
            rows: w.rows(),
            row_bytes: w.row_bytes(),
            groups: w.groups(),
            steps: 8 * self.format.group_size() / C::STEP,
            all_steps: w.cols().div_ceil(C::STEP),
            windows: C::windows(),
            kinds: PhantomData,
        };
        // SAFETY: by this function's own contract.
        unsafe { stream::blocks(&packed, part, range) }
    }
}

/// Weights whose codes are `C`, with scales `S`, in groups of so many [`spans`], perhaps two rows in a vector. What a row
/// needs is looked up once: a row is short.
pub(super) struct Packed<'a, C, S, const SPANS: usize, const PAIRS: bool> {
    pub(super) job: &'a Job<'a>,
    places: Places,
    codes: Shared<u8>,
    scales: Shared<u8>,
    biases: Shared<u8>,
    rows: usize,
    pub(super) row_bytes: usize,
    pub(super) groups: usize,
    /// Steps of eight groups.
    pub(super) steps: usize,
    /// Steps of a row, whose last one may end beyond it.
    pub(super) all_steps: usize,
    pub(super) windows: &'static Windows,
    kinds: PhantomData<fn() -> (C, S)>,
}

impl<C: Codes, S: ScaleFormat, const SPANS: usize, const PAIRS: bool> Stream
    for Packed<'_, C, S, SPANS, PAIRS>
{
    type Simd = Avx2;
    const TALL: bool = C::TALL || (SPANS > 0 && C::BITS <= 4);
    // Eight sums, and the vectors of a step, are as much as the registers hold.
    const WIDE: bool = SPANS > 0 && C::BITS <= 4;
    const PAIRED: bool = PAIRS;
    const AHEAD_BYTES: usize = match (C::BITS, SPANS) {
        (5.., _) => 8 * 1024,
        (_, 1..) => 6 * 1024,
        _ => 4 * 1024,
    };

    fn x_rows(&self) -> usize {
        self.job.arranged.rows
    }

    fn x_row_bytes(&self) -> usize {
        size_of::<i16>() * self.places.values_stride
    }

    fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    fn y(&self, part: usize) -> Rows<'_> {
        self.job.parts[part].y
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) {
        let Packed {
            places,
            row_bytes,
            groups,
            ..
        } = *self;
        // SAFETY: by the trait's contract; groups stay within a row, and vectors within arranged rows, which
        // end in zeros. A step begins within a row and reads at most `SLACK` bytes: those that lie behind the
        // last of these rows are of the matrix, or of the copy.
        unsafe {
            let mut codes = self.codes.get().cast_const().add(place.row * row_bytes);
            let far = codes.wrapping_add(place.ahead * row_bytes);
            // What follows a row is read with its last step, and meets zeros; but something must follow.
            let mut last = None;
            if (self.rows - place.row - R) * row_bytes < SLACK {
                let copy = last.insert(Scratch::<u8>::take(R * row_bytes + SLACK));
                std::ptr::copy_nonoverlapping(codes, copy.as_mut_ptr(), R * row_bytes);
                codes = copy.as_ptr();
            }
            let mut units = [std::ptr::null(); M];
            let (mut sums, mut rests) = ([std::ptr::null(); M], [std::ptr::null(); M]);
            for i in 0..M {
                units[i] = places.units(place.m + i);
                sums[i] = places.sums(place.m + i);
                rests[i] = places.rests(place.m + i);
            }
            let pointers = Pointers {
                codes,
                far,
                x: (places.values(place.m), places.values_stride),
                units,
            };
            let mut acc = [[Avx2::zero(); M]; R];
            let first_scale = S::SIZE * place.row * groups;
            let scales_at = self.scales.get().cast_const().add(first_scale);
            let biases_at = self.biases.get().cast_const().add(first_scale);
            let ahead = S::SIZE * place.ahead * groups;
            if PAIRS && R.is_multiple_of(2) {
                let of_groups = OfGroups {
                    scales: scales_at,
                    biases: biases_at,
                    sums,
                    rests,
                    ahead,
                };
                self.sums_of_pairs::<R, M>(&pointers, &of_groups, &mut acc);
                return stream::sum_lanes::<Avx2, R, M>(&acc, results, at);
            }
            for block in (0..groups).step_by(8) {
                let count = (groups - block).min(8);
                // The rows' lie end to end, as those of their codes do.
                let far = ahead + S::SIZE * block * R;
                let at = S::SIZE * block;
                let scales = load_scales::<S, R>(scales_at.add(at), S::SIZE * groups, count);
                Avx2::prefetch(scales_at.wrapping_add(far));
                if S::AFFINE {
                    let biases = load_scales::<S, R>(biases_at.add(at), S::SIZE * groups, count);
                    Avx2::prefetch(biases_at.wrapping_add(far));
                    for i in 0..M {
                        let sums = Avx2::load_f32(sums[i].add(block));
                        let rests = Avx2::load_f32(rests[i].add(block));
                        for r in 0..R {
                            acc[r][i] = Avx2::mul_add(biases[r], sums, acc[r][i]);
                            acc[r][i] = Avx2::mul_add(scales[r], rests, acc[r][i]);
                        }
                    }
                }
                if SPANS > 0 {
                    self.add_spans(&pointers, block..block + count, &scales, &mut acc);
                } else {
                    self.add_steps(&pointers, block, &scales, &mut acc);
                }
            }
            stream::sum_lanes::<Avx2, R, M>(&acc, results, at);
        }
    }
}
