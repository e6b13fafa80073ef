//! Root-mean-square normalisation, alone and together with the residual sums around it.

pub mod cuda;
pub(crate) mod graph;
pub(crate) mod norm;

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch};
use crate::scratch::Scratch;
use crate::vector::{dot, grain, load_row, reload_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

/// A normalisation: `x / sqrt(mean(x²) + epsilon) · weight`.
#[derive(Clone, Copy, Debug)]
pub struct NormView<'a> {
    /// A row of factors; none means one. (Gemma's are one less than what belongs here.)
    pub weight: Option<View<'a>>,
    /// What is added to the mean square.
    pub epsilon: f32,
}

impl NormView<'_> {
    /// Fails unless the weight fits rows of `cols` elements.
    pub(crate) fn check(&self, op: &'static str, cols: usize) -> Result<()> {
        if let Some(weight) = &self.weight {
            let shape = weight.layout().shape();
            ensure!(
                op,
                shape == [1, 1, cols],
                "a weight {shape:?} for rows of {cols}"
            );
        }
        Ok(())
    }

    /// The factors as float32.
    ///
    /// # Safety
    /// [`Simd`]'s contract.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, cols: usize) -> Scratch<f32> {
        let mut factors = Scratch::<f32>::take(cols);
        match &self.weight {
            // SAFETY: by this function's own contract; the weight has `cols` elements.
            Some(weight) => unsafe { load_row::<S>(weight, 0, 0, factors.as_mut_ptr()) },
            None => factors.as_mut_slice().fill(1.0),
        }
        factors
    }

    /// Normalises a row of `cols` floats where it lies.
    ///
    /// # Safety
    /// [`Simd`]'s contract; both rows have room up to whole vectors.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd>(&self, row: *mut f32, factors: *const f32, cols: usize) {
        // SAFETY: by this function's own contract.
        unsafe {
            let square = dot::<S>(row, row, cols);
            let factor = 1.0 / (square / cols as f32 + self.epsilon).sqrt();
            for k in (0..cols).step_by(S::LANES) {
                let factors = S::mul(S::load_f32(factors.add(k)), S::splat(factor));
                S::store_f32(row.add(k), S::mul(S::load_f32(row.add(k)), factors));
            }
        }
    }
}

/// `y = norm(x)`, row by row, in float32 from and to any element types.
///
/// # Errors
/// When the sizes disagree.
pub fn rms_norm(cpu: &Cpu, x: View<'_>, norm: NormView<'_>, mut y: ViewMut<'_>) -> Result<()> {
    let shape = y.layout().shape();
    let given = x.layout().shape();
    ensure!(
        "rms_norm",
        given == shape,
        "x {given:?} does not make y {shape:?}"
    );
    norm.check("rms_norm", shape[2])?;
    let y = y.rows();
    cpu.pool()
        .run_ranges(shape[0] * shape[1], grain(shape[2]), |range| {
            let kernel = RmsNorm {
                x,
                addend: None,
                norm,
                sum: None,
                y: Some(y),
                range,
            };
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
            // ranges are disjoint.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
    Ok(())
}

/// What [`add_rms_norm`] adds to its residual stream.
#[derive(Clone, Copy, Debug)]
pub struct Addend<'a> {
    /// The output of a layer.
    pub x: View<'a>,
    /// A normalisation of its own that it goes through before (Gemma's post-norms).
    pub norm: Option<NormView<'a>>,
}

/// `sum = x + addend`, and `y = norm(sum)`: a residual connection with the normalisation before it
/// and the one after. The normalisation is of the sum as its element type keeps it.
///
/// # Errors
/// When the sizes disagree.
pub fn add_rms_norm(
    cpu: &Cpu,
    x: View<'_>,
    addend: Addend<'_>,
    mut sum: ViewMut<'_>,
    norm: NormView<'_>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let op = "add_rms_norm";
    let shape = y.layout().shape();
    for (name, l) in [
        ("x", x.layout()),
        ("addend", addend.x.layout()),
        ("sum", sum.layout()),
    ] {
        ensure!(
            op,
            l.shape() == shape,
            "{name} {:?} does not fit y {shape:?}",
            l.shape()
        );
    }
    norm.check(op, shape[2])?;
    if let Some(norm) = &addend.norm {
        norm.check(op, shape[2])?;
    }
    let (sum, y) = (Some(sum.rows()), Some(y.rows()));
    cpu.pool()
        .run_ranges(shape[0] * shape[1], grain(shape[2]), |range| {
            let kernel = RmsNorm {
                x,
                addend: Some(addend),
                norm,
                sum,
                y,
                range,
            };
            // SAFETY: as in `rms_norm`.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
    Ok(())
}

/// `sum = x + addend`: a residual connection with no normalisation after it.
///
/// # Errors
/// When the sizes disagree.
pub fn add_norm(cpu: &Cpu, x: View<'_>, addend: Addend<'_>, mut sum: ViewMut<'_>) -> Result<()> {
    let op = "add_norm";
    let shape = sum.layout().shape();
    ensure!(
        op,
        [x.layout().shape(), addend.x.layout().shape()] == [shape; 2],
        "x {:?} and addend {:?} do not make {shape:?}",
        x.layout().shape(),
        addend.x.layout().shape()
    );
    let norm = match addend.norm {
        Some(norm) => norm,
        None => return crate::add::add(cpu, x, addend.x, sum),
    };
    norm.check(op, shape[2])?;
    let sum = Some(sum.rows());
    cpu.pool()
        .run_ranges(shape[0] * shape[1], grain(shape[2]), |range| {
            let kernel = RmsNorm {
                x,
                addend: Some(addend),
                norm,
                sum,
                y: None,
                range,
            };
            // SAFETY: as in `rms_norm`.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
    Ok(())
}

/// Rows `range`, counted plane after plane.
struct RmsNorm<'a> {
    x: View<'a>,
    addend: Option<Addend<'a>>,
    norm: NormView<'a>,
    sum: Option<Rows<'a>>,
    y: Option<Rows<'a>>,
    range: Range<usize>,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (rows, cols) = (self.x.layout().rows, self.x.layout().cols);
        let (mut x, mut other) = (Scratch::<f32>::take(cols), Scratch::<f32>::take(cols));
        let (x, other) = (x.as_mut_ptr(), other.as_mut_ptr());
        // SAFETY: run by `dispatch`; scratch rows have room up to whole vectors, and the rows of
        // the results are this thread's.
        unsafe {
            let factors = self.norm.load::<S>(cols);
            let inner = self.addend.as_ref().and_then(|addend| addend.norm);
            let inner = inner.map(|norm| (norm, norm.load::<S>(cols)));
            for i in self.range {
                let (plane, row) = (i / rows, i % rows);
                load_row::<S>(&self.x, plane, row, x);
                if let (Some(addend), Some(sum)) = (&self.addend, self.sum) {
                    load_row::<S>(&addend.x, plane, row, other);
                    if let Some((norm, factors)) = &inner {
                        norm.apply::<S>(other, factors.as_ptr(), cols);
                    }
                    for k in (0..cols).step_by(S::LANES) {
                        let sum = S::add(S::load_f32(x.add(k)), S::load_f32(other.add(k)));
                        S::store_f32(x.add(k), sum);
                    }
                    store_row::<S>(sum, plane, row, x);
                    // What the next layer sees is what was kept.
                    reload_row::<S>(sum, plane, row, x);
                }
                if let Some(y) = self.y {
                    self.norm.apply::<S>(x, factors.as_ptr(), cols);
                    store_row::<S>(y, plane, row, x);
                }
            }
        }
    }
}
