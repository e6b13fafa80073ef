//! Any format by any instruction set: a row of weights becomes float32 in cache, and is
//! multiplied with each row of `x`.

use std::ops::Range;

use super::Quantized;
use super::dequantize::dequantize;
use crate::isa::{Float, Kernel, Simd, dispatch, with_float};
use crate::scratch::Scratch;
use crate::vector::dot;
use crate::view::Rows;
use crate::{Cpu, View};

/// Bytes of weights that a range of rows has at least.
const GRAIN_BYTES: usize = 32 * 1024;

/// `y = x · wᵀ`; the sizes fit.
pub(super) fn product(cpu: &Cpu, x: &View<'_>, w: &Quantized<'_>, y: Rows<'_>) {
    let x = crate::vector::to_f32(cpu, x);
    let grain = (GRAIN_BYTES / w.row_bytes()).max(1);
    cpu.pool().run_ranges(w.rows(), grain, |range| {
        let kernel = Product {
            x: x.as_slice(),
            w,
            y,
            range,
        };
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
        // ranges are disjoint and within the rows of the weights.
        unsafe { dispatch(cpu.isa(), kernel) }
    });
}

struct Product<'a> {
    x: &'a [f32],
    w: &'a Quantized<'a>,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let cols = self.w.cols();
        let mut row = Scratch::<f32>::take(cols);
        for n in self.range {
            // SAFETY: run by `dispatch`; the range is within the rows.
            unsafe { dequantize::<S>(self.w, n, row.as_mut_ptr()) };
            for (m, x) in self.x.chunks_exact(cols).enumerate() {
                // SAFETY: run by `dispatch`; rows of `x` and of the weights have `cols` elements.
                let sum = unsafe { dot::<S>(row.as_ptr(), x.as_ptr(), cols) };
                with_float!(self.y.layout().dtype, T => {
                    let to = self.y.row(0, m).cast::<T>().wrapping_add(n);
                    // SAFETY: the element is within `y`, and this thread's.
                    unsafe { to.write_unaligned(T::from_f32(sum)) }
                });
            }
        }
    }
}
