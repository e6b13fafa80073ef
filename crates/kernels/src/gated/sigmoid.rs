//! What attention gives times the sigmoid of its gates.

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch, sigmoid};
use crate::scratch::Scratch;
use crate::vector::{grain, load_row, reload_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

/// `y = y · sigmoid(gate)`, in float32 from and to any element types.
///
/// # Errors
/// When the sizes disagree.
pub(crate) fn gate_by_sigmoid(cpu: &Cpu, gate: View<'_>, mut y: ViewMut<'_>) -> Result<()> {
    let shape = y.layout().shape();
    ensure!(
        "gate_by_sigmoid",
        gate.layout().shape() == shape,
        "gate {:?} for y {shape:?}",
        gate.layout().shape()
    );
    let y = y.rows();
    cpu.pool()
        .run_ranges(shape[0] * shape[1], grain(shape[2]), |range| {
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
            // ranges are disjoint, and every row has been written.
            unsafe { dispatch(cpu.isa(), Gate { gate, y, range }) }
        });
    Ok(())
}

/// Rows `range`, counted plane after plane.
struct Gate<'a> {
    gate: View<'a>,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (rows, cols) = (self.y.layout().rows, self.y.layout().cols);
        let (mut gate, mut y) = (Scratch::<f32>::take(cols), Scratch::<f32>::take(cols));
        let (gate, y) = (gate.as_mut_ptr(), y.as_mut_ptr());
        for i in self.range {
            let (plane, row) = (i / rows, i % rows);
            // SAFETY: run by `dispatch`; scratch rows have room up to whole vectors, and the row is this thread's.
            unsafe {
                load_row::<S>(&self.gate, plane, row, gate);
                reload_row::<S>(self.y, plane, row, y);
                for k in (0..cols).step_by(S::LANES) {
                    let factor = sigmoid::<S>(S::load_f32(gate.add(k)));
                    S::store_f32(y.add(k), S::mul(S::load_f32(y.add(k)), factor));
                }
                store_row::<S>(self.y, plane, row, y);
            }
        }
    }
}
