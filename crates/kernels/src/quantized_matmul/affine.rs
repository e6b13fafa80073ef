//! Few rows of `x` by affine 4- or 8-bit weights, in float32 on any instruction set.
//!
//! A vector of words is unpacked field by field: a mask, a conversion to float32, a
//! multiplication. Field `i` of every word meets element `i` of every `32 / BITS`, so `x` is put
//! into this order once a call. A masked field is not shifted down: it is `2^shift` times its code,
//! exactly, and what makes up for that is in `x`.

use std::marker::PhantomData;
use std::ops::Range;

use super::{Format, Mode, Part, Quantized, Scales};
use crate::isa::{Kernel, Simd, dispatch, with_float};
use crate::scratch::{Scratch, Shared};
use crate::stream::{self, BATCH, Place, Stream};
use crate::vector::{dot, load_row, widen};
use crate::view::Rows;
use crate::{Cpu, Dtype, View};

/// Whether [`products`] serves this format.
pub(super) fn has_kernel(w: &Quantized<'_>) -> bool {
    w.format().mode() == Mode::Affine && matches!(w.format().bits(), 4 | 8)
}

/// `y = x · wᵀ` for each part, all of one kind; [`serves`] said yes, and the sizes fit.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let (format, cols, dtype) = parts[0].w.kind();
    let rows = x.layout().rows;
    let groups = parts[0].w.groups();
    // Up to the longest vector's elements, and the sums of groups up to whole vectors.
    let stride = cols.next_multiple_of(16 * 8);
    let padded = groups.next_multiple_of(16);
    let mut values = Scratch::<f32>::take(rows * stride);
    let mut sums = Scratch::<f32>::take(rows * padded);
    let products = Products {
        parts,
        format,
        dtype: dtype.unwrap_or(Dtype::F32),
        groups,
        padded,
        rows,
        values: Shared::new(values.as_mut_ptr()),
        stride,
        sums: Shared::new(sums.as_mut_ptr()),
    };
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    unsafe {
        dispatch(
            cpu.isa(),
            Arrange {
                products: &products,
                x,
            },
        )
    };
    let counts = parts.iter().map(|part| part.w.rows());
    stream::share(cpu, parts[0].w.row_bytes(), counts, |part, range| {
        // SAFETY: as above; ranges are disjoint and within the rows of the weights.
        unsafe {
            dispatch(
                cpu.isa(),
                Columns {
                    products: &products,
                    part,
                    range,
                },
            )
        }
    });
}

/// Products with one `x`, for threads to share.
struct Products<'a> {
    parts: &'a [Part<'a>],
    format: Format,
    /// Of scales and biases.
    dtype: Dtype,
    /// Groups of a row, and those up to whole vectors.
    groups: usize,
    padded: usize,
    /// Rows of `x`.
    rows: usize,
    /// Rows of `x`, arranged.
    values: Shared<f32>,
    stride: usize,
    /// For each row of `x`, its sums over groups.
    sums: Shared<f32>,
}

/// Puts `x` in order: for each vector of words, for each field, the elements of all words.
struct Arrange<'a> {
    products: &'a Products<'a>,
    x: &'a View<'a>,
}

impl Kernel for Arrange<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Products {
            format,
            groups,
            padded,
            rows,
            stride,
            ..
        } = *self.products;
        let (bits, group) = (format.bits(), format.group_size());
        let fields = 32 / bits;
        let mut row = Scratch::<f32>::take(stride);
        for m in 0..rows {
            // SAFETY: run by `dispatch`; `products` made room.
            unsafe {
                let values = self.products.values.get().add(m * stride);
                let sums = self.products.sums.get().add(m * padded);
                let x = row.as_mut_ptr();
                x.write_bytes(0, stride);
                load_row::<S>(self.x, 0, m, x);
                sums.write_bytes(0, padded);
                for g in 0..groups {
                    let group = std::slice::from_raw_parts(x.add(g * group), group);
                    *sums.add(g) = group.iter().sum();
                }
                for first in (0..stride).step_by(S::LANES * fields) {
                    for field in 0..fields {
                        // The highest field is shifted down, the others are only masked.
                        let shift = if field + 1 < fields { field * bits } else { 0 };
                        let factor = f32::from_bits((127 - shift as u32) << 23);
                        for lane in 0..S::LANES {
                            let value = *x.add(first + lane * fields + field);
                            *values.add(first + field * S::LANES + lane) = value * factor;
                        }
                    }
                }
            }
        }
    }
}

/// Columns `range` of a part's product.
struct Columns<'a> {
    products: &'a Products<'a>,
    part: usize,
    range: Range<usize>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            products,
            part,
            range,
        } = self;
        let mut scales = Scratch::<f32>::take(4 * products.padded);
        let scales = Shared::new(scales.as_mut_ptr());
        let group = products.format.group_size();
        /// Words of fields of so many bits, a vector of which spans so many groups.
        macro_rules! packed {
            ($bits:literal, $groups:literal) => {
                stream::blocks(
                    &Packed::<S, $bits, $groups> {
                        products,
                        scales,
                        simd: PhantomData,
                    },
                    part,
                    range,
                )
            };
        }
        // SAFETY: run by `dispatch`, for this thread's columns.
        unsafe {
            match products.format.bits() {
                4 => match S::LANES * 8 / group {
                    4 => packed!(4, 4),
                    2 => packed!(4, 2),
                    _ => packed!(4, 1),
                },
                _ => match S::LANES * 4 / group {
                    2 => packed!(8, 2),
                    _ => packed!(8, 1),
                },
            }
        }
    }
}

/// Weights of `BITS` bits, whose vectors of words span `GROUPS` groups, or a part of one.
struct Packed<'a, S, const BITS: u32, const GROUPS: usize> {
    products: &'a Products<'a>,
    /// This thread's room for the scales and biases of two rows.
    scales: Shared<f32>,
    simd: PhantomData<fn() -> S>,
}

impl<S: Simd, const BITS: u32, const GROUPS: usize> Stream for Packed<'_, S, BITS, GROUPS> {
    type Simd = S;
    const TALL: bool = false;

    fn x_rows(&self) -> usize {
        self.products.rows
    }

    fn row_bytes(&self) -> usize {
        self.products.parts[0].w.row_bytes()
    }

    fn y(&self, part: usize) -> Rows<'_> {
        self.products.parts[part].y
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) {
        let Products {
            parts,
            format,
            padded,
            stride,
            ..
        } = *self.products;
        let w = &parts[place.part].w;
        let row_bytes = w.row_bytes();
        let vector_bytes = 4 * S::LANES;
        let vector_elements = S::LANES * 32 / BITS as usize;
        // SAFETY: by the trait's contract; all loads are within a row, or within arranged rows
        // and scales, which end in zeros.
        unsafe {
            let scales = self.scales.get();
            let biases = scales.add(2 * padded);
            for r in 0..R {
                let place = Place {
                    row: place.row + r,
                    ..place
                };
                self.load_scales(w, place, scales.add(r * padded), biases.add(r * padded));
            }
            let codes = w.packed.as_ptr().add(place.row * row_bytes);
            let far = codes.wrapping_add(place.ahead * row_bytes);
            let x = self
                .products
                .values
                .get()
                .add(place.m * stride)
                .cast_const();
            let mut acc = [[S::zero(); M]; R];
            for byte in (0..row_bytes).step_by(vector_bytes) {
                let mut words = [S::load_words([0_u8; 64].as_ptr()); R];
                for r in 0..R {
                    S::prefetch(far.wrapping_add(byte * R + r * vector_bytes));
                    words[r] = load_words::<S>(codes.add(r * row_bytes + byte), row_bytes - byte);
                }
                let first = byte / vector_bytes * vector_elements;
                let mut sums = [[S::zero(); M]; R];
                /// Multiplies a field of all words, unless words have fewer.
                macro_rules! fields {
                    ($($field:literal)*) => {$(
                        if $field < 32 / BITS as usize {
                            let mut codes = [S::zero(); R];
                            for r in 0..R {
                                codes[r] = field::<S, $field, BITS>(words[r]);
                            }
                            for i in 0..M {
                                let x = x.add(i * stride + first + $field * S::LANES);
                                let x = S::load_f32(x);
                                for r in 0..R {
                                    sums[r][i] = S::mul_add(codes[r], x, sums[r][i]);
                                }
                            }
                        }
                    )*};
                }
                fields!(0 1 2 3 4 5 6 7);
                let group = first / format.group_size();
                for r in 0..R {
                    let scale = S::spread::<GROUPS>(scales.add(r * padded + group));
                    for i in 0..M {
                        acc[r][i] = S::mul_add(sums[r][i], scale, acc[r][i]);
                    }
                }
            }
            stream::sum_lanes::<S, R, M>(&acc, results, at);
            for r in 0..R {
                for i in 0..M {
                    let x = self.products.sums.get().add((place.m + i) * padded);
                    results[i][at + r] += dot::<S>(biases.add(r * padded), x, padded);
                }
            }
        }
    }
}

impl<S: Simd, const BITS: u32, const GROUPS: usize> Packed<'_, S, BITS, GROUPS> {
    /// The scales and biases of a row as float32, zero beyond the last group. Those of the row
    /// `place.ahead` further are asked for.
    ///
    /// # Safety
    /// [`Simd`]'s contract; the row exists; there is room for `padded` floats each.
    #[inline(always)]
    unsafe fn load_scales(
        &self,
        w: &Quantized<'_>,
        place: Place,
        scales: *mut f32,
        biases: *mut f32,
    ) {
        let Products {
            dtype,
            groups,
            padded,
            ..
        } = *self.products;
        let Scales::Affine {
            scales: from_scales,
            biases: from_biases,
            ..
        } = w.scales
        else {
            return;
        };
        let row_bytes = groups * dtype.size();
        for (from, to) in [(from_scales, scales), (from_biases, biases)] {
            let from = from.as_ptr().wrapping_add(place.row * row_bytes);
            // SAFETY: by this function's own contract.
            unsafe {
                S::prefetch(from.wrapping_add(place.ahead * row_bytes));
                to.add(padded - 16).write_bytes(0, 16);
                with_float!(dtype, T => widen::<S, T>(from.cast(), to, groups));
            }
        }
    }
}

/// A vector of words of which `bytes` are there; what is not there is zero.
///
/// # Safety
/// [`Simd`]'s contract; so many bytes can be read.
#[inline(always)]
unsafe fn load_words<S: Simd>(from: *const u8, bytes: usize) -> S::W {
    // SAFETY: by this function's own contract.
    unsafe {
        if bytes >= 4 * S::LANES {
            return S::load_words(from);
        }
        let mut last = [0_u8; 64];
        std::ptr::copy_nonoverlapping(from, last.as_mut_ptr(), bytes);
        S::load_words(last.as_ptr())
    }
}

/// Field `FIELD` of words of fields of `BITS` bits: see [`Simd::field`].
///
/// # Safety
/// [`Simd`]'s contract.
#[inline(always)]
unsafe fn field<S: Simd, const FIELD: usize, const BITS: u32>(words: S::W) -> S::V {
    // SAFETY: by this function's own contract. Shifts of fields that there are not are never run.
    unsafe {
        match (FIELD, BITS) {
            (0, _) => match BITS {
                4 => S::field::<0, 4>(words),
                _ => S::field::<0, 8>(words),
            },
            (1, 4) => S::field::<4, 4>(words),
            (2, 4) => S::field::<8, 4>(words),
            (3, 4) => S::field::<12, 4>(words),
            (4, 4) => S::field::<16, 4>(words),
            (5, 4) => S::field::<20, 4>(words),
            (6, 4) => S::field::<24, 4>(words),
            (7, 4) => S::field::<28, 4>(words),
            (1, _) => S::field::<8, 8>(words),
            (2, _) => S::field::<16, 8>(words),
            _ => S::field::<24, 8>(words),
        }
    }
}
