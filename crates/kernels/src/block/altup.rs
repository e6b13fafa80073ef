//! A block whose rows are several streams: it computes one of them, and corrects the others by what it has made of
//! that (Gemma 3n).

use super::{BlockView, Result, Segments, feed_forward, mix, no_inputs};
use crate::add::{add, multiply};
use crate::altup::{Coefficients, Made, correct, corrected_active, predict};
use crate::linear::{Intermediate, LinearView, product};
use crate::rms_norm::{Addend, NormView, add_norm, rms_norm};
use crate::{Cpu, Dtype, View, ViewMut};

/// What makes one stream of several, and back: `W` is a linear map, `N` a norm.
#[derive(Clone, Debug)]
pub struct AltUp<W, N> {
    /// Of what the router sees.
    pub router_norm: N,
    /// `[streams, hidden]`.
    pub router: W,
    /// What the router's outputs are multiplied by, before their tanh.
    pub router_scale: f32,
    /// What becomes of those.
    pub coefficients: Coefficients,
    /// What stands beside the attention.
    pub laurel: Laurel<W, N>,
}

/// A map of low rank: of normalized rows `n`, `n + norm(right(left(n)))` is added to what the attention adds, and the
/// sum of all is divided by the root of two.
#[derive(Clone, Copy, Debug)]
pub struct Laurel<W, N> {
    /// `[rank, hidden]`.
    pub left: W,
    /// `[hidden, rank]`.
    pub right: W,
    /// Of what these make.
    pub norm: N,
}

impl<W, N> AltUp<W, N> {
    /// The same with its parts as something else.
    pub(crate) fn try_map<'a, W2, N2, X>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, X>,
        norm: impl Fn(&'a N) -> Result<N2, X>,
    ) -> Result<AltUp<W2, N2>, X> {
        Ok(AltUp {
            router_norm: norm(&self.router_norm)?,
            router: weight(&self.router)?,
            router_scale: self.router_scale,
            coefficients: self.coefficients.clone(),
            laurel: Laurel {
                left: weight(&self.laurel.left)?,
                right: weight(&self.laurel.right)?,
                norm: norm(&self.laurel.norm)?,
            },
        })
    }
}

impl AltUp<LinearView<'_>, NormView<'_>> {
    /// As [`block`](super::block), of rows `x [L, streams · hidden]`: `y [R, streams · hidden]`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        x: View<'_>,
        block: &BlockView<'_>,
        segments: Segments<'_>,
        inputs: Option<View<'_>>,
        mut y: ViewMut<'_>,
    ) -> Result<()> {
        let by = &self.coefficients;
        let (length, dtype, rows) = (x.layout().rows, x.layout().dtype, y.layout().rows);
        let hidden = by.hidden(x.layout().cols)?;
        let room = |rows: usize, cols: usize| Intermediate::take(dtype, rows, cols);
        let (active, last) = (by.active(hidden), length - rows..length);

        let mut predicted = room(length, x.layout().cols);
        let m = self.said_of(cpu, x.slice_cols(active.clone())?)?;
        predict(cpu, x, &m, by, predicted.view_mut()?)?;
        let now = predicted.view()?.slice_cols(active)?;
        let mut normed = room(length, hidden);
        rms_norm(cpu, now, block.attention_norm, normed.view_mut()?)?;
        let mut mixed = room(rows, hidden);
        mix(cpu, normed.view()?, block, segments, mixed.view_mut()?)?;

        let now = now.slice_rows(last.clone())?;
        let (mut sum, mut stream, mut h) =
            (room(rows, hidden), room(rows, hidden), room(rows, hidden));
        let addend = Addend {
            x: mixed.view()?,
            norm: block.attended_norm,
        };
        add_norm(cpu, now, addend, sum.view_mut()?)?;
        let seen = normed.view()?.slice_rows(last.clone())?;
        self.laurel.run(cpu, seen, h.view_mut()?)?;
        add(cpu, sum.view()?, h.view()?, stream.view_mut()?)?;
        multiply(cpu, stream.view_mut()?, std::f32::consts::FRAC_1_SQRT_2);

        rms_norm(cpu, stream.view()?, block.mlp_norm, h.view_mut()?)?;
        feed_forward(cpu, block, h.view()?, stream.view()?, mixed.view_mut()?)?;
        let addend = Addend {
            x: mixed.view()?,
            norm: block.mlp_out_norm,
        };
        add_norm(cpu, stream.view()?, addend, sum.view_mut()?)?;

        let m = self.said_of(cpu, sum.view()?)?;
        let made = Made {
            predicted: predicted.view()?.slice_rows(last.clone())?,
            activated: sum.view()?,
            m: &m,
        };
        match &block.own_input {
            None => correct(cpu, made, by, None, y.reborrow())?,
            Some(own) => {
                corrected_active(cpu, made, by, h.view_mut()?)?;
                let inputs = inputs.ok_or_else(no_inputs)?.slice_rows(last)?;
                let out = own.projected(cpu, h.view()?, inputs)?;
                rms_norm(cpu, out.view()?, own.norm, mixed.view_mut()?)?;
                correct(cpu, made, by, Some(mixed.view()?), y.reborrow())?;
            }
        }
        if let Some(scale) = block.scale {
            multiply(cpu, y, scale);
        }
        Ok(())
    }

    /// What is said of the rows of `x [R, hidden]`: a number for each stream, `[R, streams]`.
    fn said_of(&self, cpu: &Cpu, x: View<'_>) -> Result<Vec<f32>> {
        let (rows, hidden) = (x.layout().rows, x.layout().cols);
        let mut normed = Intermediate::take(Dtype::F32, rows, hidden);
        rms_norm(cpu, x, self.router_norm, normed.view_mut()?)?;
        let mut routed = Intermediate::take(Dtype::F32, rows, self.coefficients.streams);
        product(cpu, normed.view()?, &self.router, routed.view_mut()?)?;
        let routed = routed.floats();
        Ok(routed.map(|x| (x * self.router_scale).tanh()).collect())
    }
}

impl Laurel<LinearView<'_>, NormView<'_>> {
    /// The rows of `x [R, hidden]`, and their map of low rank.
    fn run(&self, cpu: &Cpu, x: View<'_>, y: ViewMut<'_>) -> Result<()> {
        let (rows, dtype) = (x.layout().rows, x.layout().dtype);
        let room = |cols: usize| Intermediate::take(dtype, rows, cols);
        let (mut low, mut wide) = (room(self.left.weight.rows()), room(x.layout().cols));
        product(cpu, x, &self.left, low.view_mut()?)?;
        product(cpu, low.view()?, &self.right, wide.view_mut()?)?;
        let addend = Addend {
            x: wide.view()?,
            norm: Some(self.norm),
        };
        add_norm(cpu, x, addend, y)
    }
}
