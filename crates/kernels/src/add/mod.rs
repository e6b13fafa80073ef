//! Sums of two arrays: the residual connections, and biases; and an array times a number.

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch};
use crate::scratch::Scratch;
use crate::vector::{grain, load_row, reload_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

/// `y = a + b`, in float32 from and to any element types.
///
/// # Errors
/// When the sizes disagree.
pub fn add(cpu: &Cpu, a: View<'_>, b: View<'_>, mut y: ViewMut<'_>) -> Result<()> {
    let shape = y.layout().shape();
    ensure!(
        "add",
        a.layout().shape() == shape && b.layout().shape() == shape,
        "a {:?} and b {:?} do not make y {shape:?}",
        a.layout().shape(),
        b.layout().shape()
    );
    let y = y.rows();
    cpu.pool()
        .run_ranges(shape[0] * shape[1], grain(shape[2]), |range| {
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
            // ranges are disjoint.
            unsafe { dispatch(cpu.isa(), Add { a, b, y, range }) }
        });
    Ok(())
}

/// Rows `range`, counted plane after plane.
struct Add<'a> {
    a: View<'a>,
    b: View<'a>,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (rows, cols) = (self.y.layout().rows, self.y.layout().cols);
        let (mut a, mut b) = (Scratch::<f32>::take(cols), Scratch::<f32>::take(cols));
        let (a, b) = (a.as_mut_ptr(), b.as_mut_ptr());
        for i in self.range {
            let (plane, row) = (i / rows, i % rows);
            // SAFETY: run by `dispatch`; scratch rows have room up to whole vectors.
            unsafe {
                load_row::<S>(&self.a, plane, row, a);
                load_row::<S>(&self.b, plane, row, b);
                for k in (0..cols).step_by(S::LANES) {
                    S::store_f32(
                        a.add(k),
                        S::add(S::load_f32(a.add(k)), S::load_f32(b.add(k))),
                    );
                }
                store_row::<S>(self.y, plane, row, a);
            }
        }
    }
}

/// `y[i] += row`, in float32 from and to any element types; `row` is one row, in one plane as `y`.
///
/// # Errors
/// When the sizes disagree.
pub fn add_row(cpu: &Cpu, mut y: ViewMut<'_>, row: View<'_>) -> Result<()> {
    let [planes, rows, cols] = y.layout().shape();
    ensure!(
        "add_row",
        planes == 1 && row.layout().shape() == [1, 1, cols],
        "a row {:?} is not one of y {:?}",
        row.layout().shape(),
        y.layout().shape()
    );
    let y = y.rows();
    cpu.pool().run_ranges(rows, grain(cols), |range| {
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
        // ranges are disjoint.
        unsafe { dispatch(cpu.isa(), AddRow { y, row, range }) }
    });
    Ok(())
}

/// Rows `range`.
struct AddRow<'a> {
    y: Rows<'a>,
    row: View<'a>,
    range: Range<usize>,
}

impl Kernel for AddRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let cols = self.y.layout().cols;
        let (mut a, mut b) = (Scratch::<f32>::take(cols), Scratch::<f32>::take(cols));
        let (a, b) = (a.as_mut_ptr(), b.as_mut_ptr());
        // SAFETY: run by `dispatch`; scratch rows have room up to whole vectors, and the rows of `y`
        // have been written.
        unsafe {
            load_row::<S>(&self.row, 0, 0, b);
            for i in self.range {
                reload_row::<S>(self.y, 0, i, a);
                for k in (0..cols).step_by(S::LANES) {
                    let sum = S::add(S::load_f32(a.add(k)), S::load_f32(b.add(k)));
                    S::store_f32(a.add(k), sum);
                }
                store_row::<S>(self.y, 0, i, a);
            }
        }
    }
}

/// `y *= factor`, in float32 from and to any element types.
pub fn multiply(cpu: &Cpu, mut y: ViewMut<'_>, factor: f32) {
    let [planes, rows, cols] = y.layout().shape();
    let y = y.rows();
    cpu.pool().run_ranges(planes * rows, grain(cols), |range| {
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
        // ranges are disjoint.
        unsafe { dispatch(cpu.isa(), Multiply { y, factor, range }) }
    });
}

/// Rows `range`, counted plane after plane.
struct Multiply<'a> {
    y: Rows<'a>,
    factor: f32,
    range: Range<usize>,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (rows, cols) = (self.y.layout().rows, self.y.layout().cols);
        let mut row = Scratch::<f32>::take(cols);
        let x = row.as_mut_ptr();
        for i in self.range {
            // SAFETY: run by `dispatch`; the scratch row has room up to whole vectors, and the rows of `y`
            // have been written.
            unsafe {
                reload_row::<S>(self.y, i / rows, i % rows, x);
                for k in (0..cols).step_by(S::LANES) {
                    let scaled = S::mul(S::load_f32(x.add(k)), S::splat(self.factor));
                    S::store_f32(x.add(k), scaled);
                }
                store_row::<S>(self.y, i / rows, i % rows, x);
            }
        }
    }
}
