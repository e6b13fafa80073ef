//! Rotary position embedding, with the normalisation of queries and keys that stands before it.
//!
//! The angles of a call depend on the positions only, and a model makes the same call in every
//! layer: a thread keeps the last few tables of cosines and sines.

pub mod cuda;
pub(crate) mod entry;
pub(crate) mod graph;
mod table;

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch};
use crate::rms_norm::NormView;
use crate::scratch::Scratch;
use crate::vector::{grain, load_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

use table::Table;
pub(crate) use table::release as release_tables;

/// A rotation of the elements `i` and `i + periods.len()` of a head (the half-split order), by
/// the angle `scale · position / periods[i]`. Elements beyond `2 · periods.len()` stay.
#[derive(Clone, Copy, Debug)]
pub struct RotationView<'a> {
    /// `2π` times these are the wavelengths: MLX's `freqs`.
    pub periods: &'a [f32],
    /// What positions are multiplied by: 1, or less to stretch a context.
    pub scale: f32,
    /// The position of the first row.
    pub offset: usize,
}

/// `y = rotate(norm(x))`, in float32 from and to any element types. `x` and `y` are
/// `[heads, L, D]`, with whatever strides: row `l` of each head is at position `offset + l`.
///
/// # Errors
/// When the sizes disagree.
pub fn rope(
    cpu: &Cpu,
    x: View<'_>,
    norm: Option<NormView<'_>>,
    rope: RotationView<'_>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    rope_in_parts(cpu, x, norm, rope, std::slice::from_mut(&mut y))
}

/// [`rope`] whose `y` is in parts, which have some rows each, in their order.
///
/// # Errors
/// As [`rope`].
pub(crate) fn rope_in_parts(
    cpu: &Cpu,
    x: View<'_>,
    norm: Option<NormView<'_>>,
    rope: RotationView<'_>,
    y: &mut [ViewMut<'_>],
) -> Result<()> {
    let shape = x.layout().shape();
    let rows: usize = y.iter().map(|part| part.layout().rows).sum();
    let fit = |part: &ViewMut<'_>| {
        let [planes, _, cols] = part.layout().shape();
        [planes, cols] == [shape[0], shape[2]]
    };
    ensure!(
        "rope",
        rows == shape[1] && y.iter().all(fit),
        "x {shape:?} does not make y {:?}",
        y.iter()
            .map(|part| part.layout().shape())
            .collect::<Vec<_>>()
    );
    let half = rope.periods.len();
    ensure!(
        "rope",
        2 * half <= shape[2],
        "{half} periods for heads of {}",
        shape[2]
    );
    if let Some(norm) = &norm {
        norm.check("rope", shape[2])?;
    }
    let table = Table::get(cpu, &rope, shape[1]);
    let table = &*table;
    let mut first = 0;
    for part in y {
        let rows = part.layout().rows;
        let x = x.slice_rows(first..first + rows)?;
        let y = part.rows();
        cpu.pool()
            .run_ranges(shape[0] * rows, grain(shape[2]), |range| {
                // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
                // ranges are disjoint.
                unsafe {
                    dispatch(
                        cpu.isa(),
                        Rotate {
                            x,
                            norm,
                            half,
                            table,
                            first,
                            y,
                            range,
                        },
                    )
                }
            });
        first += rows;
    }
    Ok(())
}

/// Rows `range`, counted through the heads of one position, which usually lie side by side, then of
/// the next.
struct Rotate<'a> {
    x: View<'a>,
    norm: Option<NormView<'a>>,
    half: usize,
    table: &'a Table,
    /// The table's row for the first of `x`.
    first: usize,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (planes, cols) = (self.x.layout().planes, self.x.layout().cols);
        let mut x = Scratch::<f32>::take(cols);
        let x = x.as_mut_ptr();
        // SAFETY: run by `dispatch`; scratch rows have room up to whole vectors, and the rows of
        // the result are this thread's.
        unsafe {
            let norm = self.norm.map(|norm| (norm, norm.load::<S>(cols)));
            for i in self.range {
                let (row, plane) = (i / planes, i % planes);
                load_row::<S>(&self.x, plane, row, x);
                if let Some((norm, factors)) = &norm {
                    norm.apply::<S>(x, factors.as_ptr(), cols);
                }
                rotate::<S>(x, self.table.row(self.first + row), self.half);
                store_row::<S>(self.y, plane, row, x);
            }
        }
    }
}

/// Rotates the pairs of a row.
///
/// # Safety
/// [`Simd`]'s contract; `x` leads to `2 * half` floats.
#[inline(always)]
unsafe fn rotate<S: Simd>(x: *mut f32, (cos, sin): (&[f32], &[f32]), half: usize) {
    let whole = half / S::LANES * S::LANES;
    // SAFETY: by this function's own contract; the table has `half` angles.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            let (a, b) = (S::load_f32(x.add(i)), S::load_f32(x.add(half + i)));
            let (cos, sin) = (
                S::load_f32(cos.as_ptr().add(i)),
                S::load_f32(sin.as_ptr().add(i)),
            );
            S::store_f32(x.add(i), S::sub(S::mul(a, cos), S::mul(b, sin)));
            S::store_f32(x.add(half + i), S::mul_add(a, sin, S::mul(b, cos)));
        }
        for i in whole..half {
            let (a, b) = (*x.add(i), *x.add(half + i));
            *x.add(i) = a * cos[i] - b * sin[i];
            *x.add(half + i) = a * sin[i] + b * cos[i];
        }
    }
}
