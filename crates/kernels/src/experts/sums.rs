//! The sums over a token's experts, in float32.

use std::ops::Range;

use super::route::Pair;
use crate::isa::{Kernel, Simd, dispatch};
use crate::scratch::{Scratch, Shared};
use crate::vector::{grain, load_row, store_row};
use crate::view::Rows;
use crate::{Cpu, View, ViewMut};

/// A row of sums for each token.
pub(super) struct Sums {
    floats: Scratch<f32>,
    cols: usize,
    /// From one row to the next: whole vectors.
    stride: usize,
}

impl Sums {
    pub(super) fn zeros(rows: usize, cols: usize) -> Self {
        let stride = cols.next_multiple_of(16);
        let mut floats = Scratch::take(rows * stride);
        floats.as_mut_slice().fill(0.0);
        Self {
            floats,
            cols,
            stride,
        }
    }

    /// Adds the rows of `x`, one for each pair and times its share, to the sums of the pairs' rows, which are
    /// different ones.
    pub(super) fn add(&mut self, cpu: &Cpu, pairs: &[Pair], x: View<'_>) {
        debug_assert!(x.layout().rows == pairs.len() && x.layout().cols == self.cols);
        debug_assert!(pairs.windows(2).all(|two| two[0].row < two[1].row));
        let sums = Shared::new(self.floats.as_mut_ptr());
        let stride = self.stride;
        cpu.pool()
            .run_ranges(pairs.len(), grain(self.cols), |range| {
                let add = Add {
                    pairs,
                    x: &x,
                    sums,
                    stride,
                    range,
                };
                // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
                // ranges are disjoint, and so are the pairs' rows.
                unsafe { dispatch(cpu.isa(), add) }
            });
    }

    /// Writes them to the rows of `y`.
    pub(super) fn store(&mut self, cpu: &Cpu, mut y: ViewMut<'_>) {
        debug_assert!(y.layout().cols == self.cols);
        let sums = Shared::new(self.floats.as_mut_ptr());
        let (rows, stride) = (y.layout().rows, self.stride);
        let y = y.rows();
        cpu.pool().run_ranges(rows, grain(self.cols), |range| {
            // SAFETY: as in `add`.
            unsafe {
                dispatch(
                    cpu.isa(),
                    Store {
                        sums,
                        stride,
                        y,
                        range,
                    },
                )
            }
        });
    }
}

struct Add<'a> {
    pairs: &'a [Pair],
    x: &'a View<'a>,
    sums: Shared<f32>,
    stride: usize,
    range: Range<usize>,
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let cols = self.x.layout().cols;
        let mut row = Scratch::<f32>::take(self.stride);
        let row = row.as_mut_ptr();
        for i in self.range {
            let pair = self.pairs[i];
            // SAFETY: run by `dispatch`; `row` and the sums have room for whole vectors, and the row of the
            // pair is this thread's.
            unsafe {
                let sums = self.sums.get().add(pair.row * self.stride);
                load_row::<S>(self.x, 0, i, row);
                let share = S::splat(pair.share);
                for k in (0..cols).step_by(S::LANES) {
                    let sum = S::mul_add(S::load_f32(row.add(k)), share, S::load_f32(sums.add(k)));
                    S::store_f32(sums.add(k), sum);
                }
            }
        }
    }
}

struct Store<'a> {
    sums: Shared<f32>,
    stride: usize,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Store<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.range {
            // SAFETY: run by `dispatch`; the sums have a row for each of `y`, which is this thread's.
            unsafe {
                let sums = self.sums.get().add(row * self.stride);
                store_row::<S>(self.y, 0, row, sums);
            }
        }
    }
}
