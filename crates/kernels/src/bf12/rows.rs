//! Few rows of `x`: weights are decoded in registers as they come from memory.

use std::arch::x86_64::*;
use std::ops::Range;

use half::bf16;

use super::decode::vectors::Decoder;
use super::{BLOCK, BLOCK_LINES, Bf12};
use crate::isa::Avx512;
use crate::stream::{self, BATCH, Place, Stream};
use crate::view::Rows;
use crate::{Cpu, View};

/// The most rows of `x` for which weights are decoded in registers.
pub(super) const FEW: usize = 8;

/// `y = x · wᵀ` for each part, on a machine with the bfloat16 dot product; the sizes fit, `x` is
/// bfloat16, and there is a part.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[(&Bf12, Rows<'_>)]) {
    let counts = parts.iter().map(|(w, _)| w.rows);
    let products = Products { x, parts };
    stream::share(cpu, products.row_bytes(), counts, |part, range| {
        // SAFETY: ranges are disjoint and within the rows of `w`; the rest is the caller's promise.
        unsafe { columns(&products, part, range) };
    });
}

/// # Safety
/// The machine has AVX-512 with the bfloat16 dot product; no other thread has these columns of the
/// part's product, which exist.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn columns(products: &Products<'_>, part: usize, range: Range<usize>) {
    let decoder = Decoder::new(&products.parts[part].0.exponents);
    // SAFETY: by this function's own contract.
    unsafe { stream::blocks(&Part { products, decoder }, part, range) }
}

/// Products with one `x`, for threads to share.
struct Products<'a> {
    x: &'a View<'a>,
    parts: &'a [(&'a Bf12, Rows<'a>)],
}

/// Products with the one part that is decoded so.
struct Part<'a> {
    products: &'a Products<'a>,
    decoder: Decoder,
}

impl Products<'_> {
    fn row_bytes(&self) -> usize {
        self.parts[0].0.row_lines() * 64
    }
}

impl Stream for Part<'_> {
    type Simd = Avx512;
    const TALL: bool = true;

    fn x_rows(&self) -> usize {
        self.products.x.layout().rows
    }

    fn row_bytes(&self) -> usize {
        self.products.row_bytes()
    }

    fn y(&self, part: usize) -> Rows<'_> {
        self.products.parts[part].1
    }

    #[inline(always)]
    unsafe fn sums<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    ) {
        let w = self.products.parts[place.part].0;
        let row_lines = w.row_lines();
        let mut x = [std::ptr::null::<u8>(); M];
        for i in 0..M {
            x[i] = self.products.x.row(0, place.m + i);
        }
        // SAFETY: by the trait's contract; blocks are whole.
        unsafe {
            let lines = w.row(place.row);
            // In the order of addresses, which is not that of use: so they come faster.
            let far = lines.wrapping_add(place.ahead * row_lines);
            let mut sums = [[_mm512_setzero_ps(); M]; R];
            for block in 0..w.cols / BLOCK {
                for r in 0..R {
                    for line in 0..BLOCK_LINES {
                        let far = far.wrapping_add((block * R + r) * BLOCK_LINES + line);
                        _mm_prefetch::<_MM_HINT_T0>(far.cast());
                    }
                    let lines = lines.add(r * row_lines + block * BLOCK_LINES);
                    let weights = self.decoder.block(lines.cast());
                    for i in 0..M {
                        for part in 0..4 {
                            let x = x[i].add((block * BLOCK + 32 * part) * 2);
                            let x = _mm512_loadu_si512(x.cast());
                            sums[r][i] =
                                _mm512_dpbf16_ps(sums[r][i], pairs(weights[part]), pairs(x));
                        }
                    }
                }
            }
            stream::sum_lanes::<Avx512, R, M>(&sums, results, at);
        }
        if w.starts[place.row] != w.starts[place.row + R] {
            for r in 0..R {
                for i in 0..M {
                    // SAFETY: by the trait's contract, this is a row of `x`, as long as those of `w`.
                    results[i][at + r] += unsafe { rare_products(w, place.row + r, x[i]) };
                }
            }
        }
    }
}

/// The product of the rare elements of a row with `x`.
///
/// # Safety
/// `x` leads to as many bfloat16 as the row has.
#[inline(never)]
unsafe fn rare_products(w: &Bf12, row: usize, x: *const u8) -> f32 {
    let products = w.rare(row).iter().map(|rare| {
        // SAFETY: by this function's own contract.
        let x = unsafe { x.cast::<bf16>().add(rare.col as usize).read_unaligned() };
        bf16::from_bits(rare.bits).to_f32() * x.to_f32()
    });
    products.sum()
}

/// The same bits as pairs of bfloat16.
#[inline(always)]
fn pairs(v: __m512i) -> __m512bh {
    // SAFETY: two vectors of one size, for both of which any bits are a value.
    unsafe { std::mem::transmute(v) }
}
