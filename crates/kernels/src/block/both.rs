//! A gated MLP and a mixture of experts beside each other (Gemma 4).

use crate::experts::{Each, Experts, routed_experts};
use crate::linear::{Intermediate, LinearView};
use crate::mlp::{Gated, gated_mlp};
use crate::rms_norm::{Addend, NormView, add_norm, rms_norm};
use crate::{Cpu, Result, View, ViewMut};

/// `after(gated(x)) + experts_after(experts(experts_before(s)))`, where `s` is the residual stream, which the
/// router sees too, and `x` its norm. `W` is a linear map, `N` a norm, `E` all experts.
#[derive(Clone, Copy, Debug)]
pub struct Both<W, N, E> {
    /// The one that all rows have.
    pub gated: Gated<W>,
    /// Of what it gives.
    pub after: N,
    /// Of what the experts see.
    pub experts_before: N,
    /// Many, of which each row has a few.
    pub experts: Experts<W, N, E>,
    /// Of what they give.
    pub experts_after: N,
}

impl<W, N, E> Both<W, N, E> {
    /// The same with its parts as something else.
    pub(crate) fn try_map<'a, W2, N2, E2, X>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, X>,
        norm: impl Fn(&'a N) -> Result<N2, X>,
        each: impl Fn(&'a E) -> Result<E2, X>,
    ) -> Result<Both<W2, N2, E2>, X> {
        Ok(Both {
            gated: self.gated.try_map(&weight)?,
            after: norm(&self.after)?,
            experts_before: norm(&self.experts_before)?,
            experts: self.experts.try_map(&weight, &norm, each)?,
            experts_after: norm(&self.experts_after)?,
        })
    }
}

impl Both<LinearView<'_>, NormView<'_>, &dyn Each> {
    /// Of the rows of the residual `stream` `[R, hidden]` and their norm `x`: `y` `[R, hidden]`. Between the parts
    /// rows have the element type of `x`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        x: View<'_>,
        stream: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let layout = x.layout();
        let room = || Intermediate::take(layout.dtype, layout.rows, layout.cols);
        let (mut of_all, mut normed, mut of_some) = (room(), room(), room());
        gated_mlp(cpu, x, &self.gated, of_some.view_mut()?)?;
        rms_norm(cpu, of_some.view()?, self.after, of_all.view_mut()?)?;
        rms_norm(cpu, stream, self.experts_before, normed.view_mut()?)?;
        let (seen, to) = (normed.view()?, of_some.view_mut()?);
        routed_experts(cpu, seen, stream, &self.experts, to)?;
        let addend = Addend {
            x: of_some.view()?,
            norm: Some(self.experts_after),
        };
        add_norm(cpu, of_all.view()?, addend, y)
    }
}
