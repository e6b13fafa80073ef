//! Chosen rows as plain numbers.

use super::Quantized;
use super::dequantize::dequantize;
use crate::Cpu;
use crate::isa::{Kernel, Simd, dispatch, with_float};
use crate::scratch::Scratch;
use crate::vector::narrow;
use crate::view::Rows;

/// `y[i] = w[rows[i]]`; the sizes fit, and the rows exist.
pub(super) fn store(cpu: &Cpu, w: &Quantized<'_>, rows: &[usize], y: Rows<'_>) {
    cpu.pool().run_ranges(rows.len(), 4, |range| {
        for i in range {
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; the row exists, and row `i` of `y` is this thread's.
            unsafe {
                dispatch(
                    cpu.isa(),
                    Store {
                        w,
                        row: rows[i],
                        y,
                        to: i,
                    },
                )
            }
        }
    });
}

struct Store<'a> {
    w: &'a Quantized<'a>,
    row: usize,
    y: Rows<'a>,
    to: usize,
}

impl Kernel for Store<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let cols = self.w.cols();
        let mut row = Scratch::<f32>::take(cols);
        // SAFETY: run by `dispatch`; see `store`.
        unsafe {
            dequantize::<S>(self.w, self.row, row.as_mut_ptr());
            with_float!(self.y.layout().dtype, T => {
                narrow::<S, T>(row.as_ptr(), self.y.row(0, self.to).cast(), cols);
            });
        }
    }
}
