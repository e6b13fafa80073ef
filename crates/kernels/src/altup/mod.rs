//! Several residual streams: what a layer predicts of them, and how it corrects that (Gemma 3n).
//!
//! A row has its streams side by side, `[R, streams · hidden]`. Everything is float32 between loading and storing.

use std::ops::Range;
use std::sync::Arc;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch};
use crate::scratch::Scratch;
use crate::vector::{grain, load_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

const OP: &str = "altup";

/// How the streams of a layer depend on each other. What is said of a row is one number of its own for each
/// stream, `m`, between -1 and 1.
#[derive(Clone, Debug)]
pub struct Coefficients {
    /// Streams.
    pub streams: usize,
    /// The one that the layer computes.
    pub active: usize,
    /// `[streams · streams, streams]`: `row(j · streams + k) · m` is the part of stream `k` in the prediction of
    /// stream `j`, beside itself.
    pub prediction: Arc<[f32]>,
    /// `[streams, streams]`: `1 + row(j) · m` times what the layer made more than was predicted corrects stream `j`.
    pub correction: Arc<[f32]>,
    /// `[hidden]`: what the corrected active stream is multiplied by for what is made of it.
    pub output_scale: Option<Arc<[f32]>>,
}

impl Coefficients {
    /// Width of one stream of a row of so many numbers.
    ///
    /// # Errors
    /// When that is not as many for each stream, or a part has another size.
    pub(crate) fn hidden(&self, cols: usize) -> Result<usize> {
        let n = self.streams;
        let hidden = cols / n.max(1);
        ensure!(
            OP,
            n > 0
                && cols == n * hidden
                && self.active < n
                && self.prediction.len() == n * n * n
                && self.correction.len() == n * n
                && self
                    .output_scale
                    .as_ref()
                    .is_none_or(|scale| scale.len() == hidden),
            "rows of {cols} numbers for {n} streams"
        );
        Ok(hidden)
    }

    /// The columns of the active stream.
    pub(crate) fn active(&self, hidden: usize) -> Range<usize> {
        self.active * hidden..(self.active + 1) * hidden
    }
}

/// `row · m`.
fn weighted(row: &[f32], m: &[f32]) -> f32 {
    row.iter().zip(m).map(|(c, m)| c * m).sum()
}

/// What is predicted of the rows of `x [R, streams · hidden]`, of which `m [R, streams]` is said: `y`, as large.
///
/// # Errors
/// When the sizes disagree.
pub fn predict(
    cpu: &Cpu,
    x: View<'_>,
    m: &[f32],
    by: &Coefficients,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let (shape, n) = (y.layout().shape(), by.streams);
    let width = by.hidden(shape[2])?;
    ensure!(
        OP,
        x.layout().shape() == shape && shape[0] == 1 && m.len() == shape[1] * n,
        "x {:?} does not make y {shape:?}",
        x.layout().shape()
    );
    let y = y.rows();
    cpu.pool().run_ranges(shape[1], grain(shape[2]), |range| {
        let kernel = Predict {
            x,
            m,
            by,
            width,
            y,
            range,
        };
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
        // ranges are disjoint.
        unsafe { dispatch(cpu.isa(), kernel) }
    });
    Ok(())
}

/// Rows `range`.
struct Predict<'a> {
    x: View<'a>,
    m: &'a [f32],
    by: &'a Coefficients,
    /// Of a stream.
    width: usize,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Predict<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (n, width) = (self.by.streams, self.width);
        // The last vector of the last stream may end behind a row's last whole one.
        let room = n * width + S::LANES;
        let (mut x, mut y) = (Scratch::<f32>::take(room), Scratch::<f32>::take(room));
        let (x, y) = (x.as_mut_ptr(), y.as_mut_ptr());
        for i in self.range {
            let m = &self.m[i * n..][..n];
            // SAFETY: run by `dispatch`; scratch rows have room for a vector behind their numbers. What a vector
            // writes behind a stream the next one overwrites.
            unsafe {
                load_row::<S>(&self.x, 0, i, x);
                for j in 0..n {
                    let to = y.add(j * width);
                    for k in (0..width).step_by(S::LANES) {
                        S::store_f32(to.add(k), S::load_f32(x.add(j * width + k)));
                    }
                    for other in 0..n {
                        let row = &self.by.prediction[(j * n + other) * n..][..n];
                        let (part, from) = (S::splat(weighted(row, m)), x.add(other * width));
                        for k in (0..width).step_by(S::LANES) {
                            let sum = S::load_f32(to.add(k));
                            let sum = S::mul_add(part, S::load_f32(from.add(k)), sum);
                            S::store_f32(to.add(k), sum);
                        }
                    }
                }
                store_row::<S>(self.y, 0, i, y);
            }
        }
    }
}

/// What a layer made of rows.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// What was predicted, `[R, streams · hidden]`.
    pub predicted: View<'a>,
    /// What the layer made of the active stream, `[R, hidden]`.
    pub activated: View<'a>,
    /// What is said of that, `[R, streams]`.
    pub m: &'a [f32],
}

impl Made<'_> {
    fn check(&self, by: &Coefficients) -> Result<usize> {
        let [planes, rows, cols] = self.predicted.layout().shape();
        let width = by.hidden(cols)?;
        let activated = self.activated.layout().shape();
        ensure!(
            OP,
            planes == 1 && activated == [1, rows, width] && self.m.len() == rows * by.streams,
            "{activated:?} corrects {:?}",
            self.predicted.layout().shape()
        );
        Ok(width)
    }
}

/// The corrected active stream, times its scale: `y [R, hidden]`.
///
/// # Errors
/// When the sizes disagree.
pub fn corrected_active(
    cpu: &Cpu,
    made: Made<'_>,
    by: &Coefficients,
    y: ViewMut<'_>,
) -> Result<()> {
    correct_each(cpu, made, by, None, true, y)
}

/// All corrected streams, to all of which but the first `added [R, hidden]` is added: `y [R, streams · hidden]`.
///
/// # Errors
/// When the sizes disagree.
pub fn correct(
    cpu: &Cpu,
    made: Made<'_>,
    by: &Coefficients,
    added: Option<View<'_>>,
    y: ViewMut<'_>,
) -> Result<()> {
    correct_each(cpu, made, by, added, false, y)
}

fn correct_each(
    cpu: &Cpu,
    made: Made<'_>,
    by: &Coefficients,
    added: Option<View<'_>>,
    alone: bool,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let width = made.check(by)?;
    let rows = made.activated.layout().rows;
    let cols = if alone { width } else { by.streams * width };
    let shape = y.layout().shape();
    ensure!(
        OP,
        shape == [1, rows, cols] && added.is_none_or(|a| a.layout().shape() == [1, rows, width]),
        "{rows} rows of {cols} do not make {shape:?}"
    );
    let y = y.rows();
    cpu.pool()
        .run_ranges(rows, grain(by.streams * width), |range| {
            let kernel = Correct {
                made,
                by,
                added,
                alone,
                width,
                y,
                range,
            };
            // SAFETY: as in `predict`.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
    Ok(())
}

/// Rows `range`.
struct Correct<'a> {
    made: Made<'a>,
    by: &'a Coefficients,
    added: Option<View<'a>>,
    /// Whether the active stream is wanted alone, and scaled.
    alone: bool,
    /// Of a stream.
    width: usize,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Correct<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (by, n, width) = (self.by, self.by.streams, self.width);
        let room = n * width + S::LANES;
        let row = Scratch::<f32>::take;
        let (mut x, mut news, mut added, mut y) = (row(room), row(room), row(room), row(room));
        let (x, news) = (x.as_mut_ptr(), news.as_mut_ptr());
        let (added, y) = (added.as_mut_ptr(), y.as_mut_ptr());
        let streams = match self.alone {
            true => by.active..by.active + 1,
            false => 0..n,
        };
        for i in self.range {
            let m = &self.made.m[i * n..][..n];
            // SAFETY: as in `Predict`.
            unsafe {
                load_row::<S>(&self.made.predicted, 0, i, x);
                load_row::<S>(&self.made.activated, 0, i, news);
                let active = x.add(by.active * width);
                for k in (0..width).step_by(S::LANES) {
                    let more = S::sub(S::load_f32(news.add(k)), S::load_f32(active.add(k)));
                    S::store_f32(news.add(k), more);
                }
                if let Some(view) = &self.added {
                    load_row::<S>(view, 0, i, added);
                }
                let mut to = y;
                for j in streams.clone() {
                    let factor = 1.0 + weighted(&by.correction[j * n..][..n], m);
                    let (from, factor) = (x.add(j * width), S::splat(factor));
                    for k in (0..width).step_by(S::LANES) {
                        let stream = S::load_f32(from.add(k));
                        let stream = S::mul_add(factor, S::load_f32(news.add(k)), stream);
                        S::store_f32(to.add(k), stream);
                    }
                    if self.added.is_some() && j > 0 {
                        for k in (0..width).step_by(S::LANES) {
                            let sum = S::add(S::load_f32(to.add(k)), S::load_f32(added.add(k)));
                            S::store_f32(to.add(k), sum);
                        }
                    }
                    to = to.add(width);
                }
                if let (Some(scale), true) = (&by.output_scale, self.alone) {
                    let scaled = std::slice::from_raw_parts_mut(y, width);
                    scaled.iter_mut().zip(&scale[..]).for_each(|(y, s)| *y *= s);
                }
                store_row::<S>(self.y, 0, i, y);
            }
        }
    }
}
