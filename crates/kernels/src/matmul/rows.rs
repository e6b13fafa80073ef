//! Few rows of `x` by dense weights.

use std::marker::PhantomData;
use std::ops::Range;

use super::lanes::{Lanes, Widen};
use crate::gemm::Word;
use crate::isa::{Kernel, Simd, dispatch, with_float};
use crate::scratch::Scratch;
use crate::stream::{self, BATCH, Place, Stream};
use crate::vector::load_row;
use crate::view::Rows;
use crate::{Cpu, Isa, View};

/// Elements that rows of `x` are padded to a multiple of: the widest step of any [`Lanes`].
const PAD: usize = 32;

/// `y = x · wᵀ` for each part `(w, y)`, all of one type; the sizes fit, and no row is empty.
pub(super) fn products(cpu: &Cpu, word: Word, x: &View<'_>, parts: &[(View<'_>, Rows<'_>)]) {
    let (rows, cols) = (x.layout().rows, x.layout().cols);
    let stride = cols.next_multiple_of(PAD);
    let mut padded = Scratch::<f32>::take(rows * stride);
    let to = padded.as_mut_ptr();
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    unsafe {
        dispatch(
            cpu.isa(),
            Pad {
                x,
                word,
                stride,
                to,
            },
        )
    };
    let products = Products {
        x: padded.as_ptr(),
        rows,
        cols,
        stride,
        parts,
    };
    let counts = parts.iter().map(|(w, _)| w.layout().rows);
    stream::share(cpu, products.row_bytes(0), counts, |part, range| {
        // SAFETY: as above; ranges are disjoint and within the rows of `w`.
        unsafe { products.columns(cpu.isa(), word, part, range) };
    });
}

/// Copies `x` to rows of `stride` elements (float32, or bfloat16 for pairs) that end in zeros.
struct Pad<'a> {
    x: &'a View<'a>,
    word: Word,
    stride: usize,
    to: *mut f32,
}

impl Kernel for Pad<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in 0..self.x.layout().rows {
            // SAFETY: run by `dispatch`; there is room for `stride` floats a row.
            unsafe {
                match self.word {
                    Word::Bf16Pair => {
                        let to = self.to.cast::<u16>().add(row * self.stride);
                        let from = self.x.row(0, row);
                        to.write_bytes(0, self.stride);
                        std::ptr::copy_nonoverlapping(from, to.cast(), 2 * self.x.layout().cols);
                    }
                    Word::F32 => {
                        let to = self.to.add(row * self.stride);
                        to.write_bytes(0, self.stride);
                        load_row::<S>(self.x, 0, row, to);
                    }
                }
            }
        }
    }
}

/// Products with one `x`, for threads to share.
struct Products<'a> {
    /// Rows of `stride` float32, or of half as many bytes of bfloat16.
    x: *const f32,
    rows: usize,
    cols: usize,
    stride: usize,
    parts: &'a [(View<'a>, Rows<'a>)],
}

// SAFETY: `x` and the weights are only read; each row of weights, and with it each column of `y`,
// belongs to one thread.
unsafe impl Sync for Products<'_> {}

/// Columns of a part's product.
struct Columns<'a>(&'a Products<'a>, usize, Range<usize>);

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        with_float!(self.0.parts[self.1].0.layout().dtype, T => {
            // SAFETY: as `Products::columns`.
            unsafe {
                stream::blocks(&Dense::<Widen<S, T>>(self.0, PhantomData), self.1, self.2);
            }
        });
    }
}

impl Products<'_> {
    /// # Safety
    /// The machine has `isa`; no other thread has these columns of `y`, which exist.
    unsafe fn columns(&self, isa: Isa, word: Word, part: usize, range: Range<usize>) {
        /// # Safety
        /// As [`Products::columns`], on a machine with AVX-512 and its bfloat16 dot product.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
        unsafe fn pairs(products: &Products<'_>, part: usize, range: Range<usize>) {
            // SAFETY: by this function's own contract.
            unsafe {
                stream::blocks(
                    &Dense::<super::lanes::Pairs>(products, PhantomData),
                    part,
                    range,
                );
            }
        }
        // SAFETY: by this function's own contract; pairs are chosen for `Avx512Bf16` only.
        unsafe {
            match word {
                #[cfg(target_arch = "x86_64")]
                Word::Bf16Pair => pairs(self, part, range),
                _ => dispatch(isa, Columns(self, part, range)),
            }
        }
    }

    /// Bytes from one row of a part's weights to the next.
    fn row_bytes(&self, part: usize) -> usize {
        let layout = self.parts[part].0.layout();
        layout.row_stride * layout.dtype.size()
    }
}

/// Products whose weights are multiplied as `L` does.
struct Dense<'a, L>(&'a Products<'a>, PhantomData<fn() -> L>);

impl<L: Lanes> Stream for Dense<'_, L> {
    type Simd = L::Simd;
    const TALL: bool = true;

    fn x_rows(&self) -> usize {
        self.0.rows
    }

    fn row_bytes(&self) -> usize {
        self.0.row_bytes(0)
    }

    fn y(&self, part: usize) -> Rows<'_> {
        self.0.parts[part].1
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
            cols,
            stride,
            parts,
            ..
        } = *self.0;
        let size = size_of::<L::Weight>();
        let row_bytes = self.0.row_bytes(place.part);
        // SAFETY: by the trait's contract; rows of `x` are padded to whole steps.
        unsafe {
            let w = parts[place.part].0.row(0, place.row);
            // The rows usually lie end to end: asked for from the first line of the first to the
            // last of the last, instead of in the order of use, they come faster.
            let far = w.wrapping_add(place.ahead * row_bytes);
            let x = x.cast::<u8>().add(place.m * stride * L::X_SIZE);
            let mut sums = [[L::Simd::zero(); M]; R];
            let whole = cols / L::STEP * L::STEP;
            for k in (0..whole).step_by(L::STEP) {
                for r in 0..R {
                    L::Simd::prefetch(far.wrapping_add((k * R + r * L::STEP) * size));
                    let w = L::load(w.add(r * row_bytes + k * size).cast());
                    for i in 0..M {
                        let x = x.add((i * stride + k) * L::X_SIZE);
                        sums[r][i] = L::add_products(w, x, sums[r][i]);
                    }
                }
            }
            if whole < cols {
                for r in 0..R {
                    let w = w.add(r * row_bytes + whole * size).cast();
                    let w = L::load_first(w, cols - whole);
                    for i in 0..M {
                        let x = x.add((i * stride + whole) * L::X_SIZE);
                        sums[r][i] = L::add_products(w, x, sums[r][i]);
                    }
                }
            }
            stream::sum_lanes::<L::Simd, R, M>(&sums, results, at);
        }
    }
}
