//! Few rows of `x`: weights are decoded in registers as they come from memory.

mod bf16_dot;
mod widened;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::ops::Range;

use half::bf16;

use super::{BLOCK, BLOCK_LINES, Bf12};
use crate::isa::Simd;
use crate::scratch::Shared;
use crate::stream::{self, BATCH, Place, Stream};
use crate::view::Rows;
use crate::{Cpu, Isa, View, even_odd};

/// How the elements of a block are decoded and multiplied.
trait Multiply {
    /// For sums.
    type Simd: Simd;
    /// Bytes of an element of `x`.
    const X_SIZE: usize;

    /// What the decoding of a matrix with these high bytes needs beside its lines.
    ///
    /// # Safety
    /// [`Simd`]'s contract.
    unsafe fn new(high: &[u8; 16]) -> Self;

    /// Adds to `sums` the products of the block at `lines` with as many elements of each `x`.
    ///
    /// # Safety
    /// [`Simd`]'s contract; three lines are at `lines`, and a block's elements at each `x`.
    unsafe fn add_products<const M: usize>(
        &self,
        lines: *const u8,
        x: [*const u8; M],
        sums: &mut [<Self::Simd as Simd>::V; M],
    );
}

/// `y = x · wᵀ` for each part, where [`Bf12::pays`] said yes; the sizes fit, `x` is bfloat16, and there is
/// a part.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[(&Bf12, Rows<'_>)]) {
    let layout = x.layout();
    let widened;
    let (from, stride) = match cpu.isa() {
        Isa::Avx512Bf16 => (x.row(0, 0), layout.row_stride * size_of::<bf16>()),
        _ => {
            // SAFETY: the machine has AVX2, since a `Cpu` that names it, or AVX-512, could be made.
            widened = unsafe { even_odd::arrange(x) };
            (widened.as_ptr().cast(), layout.cols * size_of::<f32>())
        }
    };
    let products = Products {
        x,
        from: Shared::new(from.cast_mut()),
        stride,
        parts,
    };
    let counts = parts.iter().map(|(w, _)| w.rows);
    stream::share(cpu, products.row_bytes(), counts, |part, range| {
        // SAFETY: as above; ranges are disjoint and within the rows of `w`; the rest is the caller's promise.
        unsafe {
            match cpu.isa() {
                Isa::Avx512Bf16 => bf16_dot::columns(&products, part, range),
                _ => widened::columns(&products, part, range),
            }
        }
    });
}

/// Products with one `x`, for threads to share.
struct Products<'a> {
    x: &'a View<'a>,
    /// Rows of `x` as they are multiplied, and the bytes from one to the next.
    from: Shared<u8>,
    stride: usize,
    parts: &'a [(&'a Bf12, Rows<'a>)],
}

/// Products with the one part that is decoded so.
struct Part<'a, D> {
    products: &'a Products<'a>,
    multiply: D,
}

impl Products<'_> {
    fn row_bytes(&self) -> usize {
        self.parts[0].0.row_lines() * 64
    }

    /// Computes columns `range` of a part's product.
    ///
    /// # Safety
    /// [`Simd`]'s contract for `D`, which matches `self.from`; no other thread has these columns, which
    /// exist.
    #[inline(always)]
    unsafe fn columns<D: Multiply + Sync>(&self, part: usize, range: Range<usize>) {
        // SAFETY: by this function's own contract.
        unsafe {
            let part_of = Part {
                products: self,
                multiply: D::new(&self.parts[part].0.high),
            };
            stream::blocks(&part_of, part, range);
        }
    }
}

impl<D: Multiply + Sync> Stream for Part<'_, D> {
    type Simd = D::Simd;
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
        let Products {
            x,
            from,
            stride,
            parts,
        } = self.products;
        let w = parts[place.part].0;
        let row_lines = w.row_lines();
        let step = BLOCK * D::X_SIZE;
        let mut rows = [std::ptr::null::<u8>(); M];
        for i in 0..M {
            rows[i] = from.get().wrapping_add((place.m + i) * stride);
        }
        // SAFETY: by the trait's contract; blocks are whole.
        unsafe {
            let lines = w.row(place.row);
            // In the order of addresses, which is not that of use: so they come faster.
            let far = lines.wrapping_add(place.ahead * row_lines);
            let mut sums = [[D::Simd::zero(); M]; R];
            for block in 0..w.cols / BLOCK {
                for r in 0..R {
                    for line in 0..BLOCK_LINES {
                        let far = far.wrapping_add((block * R + r) * BLOCK_LINES + line);
                        _mm_prefetch::<_MM_HINT_T0>(far.cast());
                    }
                    let lines = lines.add(r * row_lines + block * BLOCK_LINES);
                    let mut x = [std::ptr::null::<u8>(); M];
                    for i in 0..M {
                        x[i] = rows[i].add(block * step);
                    }
                    self.multiply.add_products(lines.cast(), x, &mut sums[r]);
                }
            }
            stream::sum_lanes::<D::Simd, R, M>(&sums, results, at);
        }
        let rows = place.row..place.row + R;
        if w.starts[rows.start] != w.starts[rows.end] {
            for i in 0..M {
                // SAFETY: by the trait's contract, this is a row of `x`, as long as those of `w`.
                unsafe {
                    add_rare(
                        w,
                        rows.clone(),
                        x.row(0, place.m + i),
                        &mut results[i][at..],
                    )
                };
            }
        }
    }
}

/// Adds to `results` the products of the rare elements of some rows with `x`.
///
/// # Safety
/// `x` leads to as many bfloat16 as the rows have.
#[inline(never)]
unsafe fn add_rare(w: &Bf12, rows: Range<usize>, x: *const u8, results: &mut [f32]) {
    // Those of the next rows: so few are not brought by the processor itself.
    let next = w.rare.as_ptr().wrapping_add(w.starts[rows.end] as usize);
    // SAFETY: any address may be asked for.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(next.wrapping_byte_add(64).cast()) };
    for (row, result) in rows.zip(results) {
        for rare in w.rare(row) {
            // SAFETY: by this function's own contract.
            let x = unsafe { x.cast::<bf16>().add(rare.col as usize).read_unaligned() };
            *result += bf16::from_bits(rare.bits).to_f32() * x.to_f32();
        }
    }
}
