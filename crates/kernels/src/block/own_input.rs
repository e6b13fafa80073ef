//! What a block adds of its own input of each row (Gemma 4).

use crate::gated::{Activation, gated};
use crate::linear::{Intermediate, LinearView, product};
use crate::rms_norm::{Addend, NormView, add_norm};
use crate::{Cpu, Result, View, ViewMut};

/// `x + norm(projection(activation(gate(x)) · input))`: `W` is a linear map, `N` a norm.
#[derive(Clone, Copy, Debug)]
pub struct OwnInput<W, N> {
    /// `[width, hidden]`.
    pub gate: W,
    /// Of the gate.
    pub activation: Activation,
    /// `[hidden, width]`.
    pub projection: W,
    /// Of what is added.
    pub norm: N,
    /// Where the block's input begins among those of all.
    pub column: usize,
}

impl<W, N> OwnInput<W, N> {
    /// The same with its parts as something else.
    pub(crate) fn try_map<'a, W2, N2, X>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, X>,
        norm: impl Fn(&'a N) -> Result<N2, X>,
    ) -> Result<OwnInput<W2, N2>, X> {
        Ok(OwnInput {
            gate: weight(&self.gate)?,
            activation: self.activation,
            projection: weight(&self.projection)?,
            norm: norm(&self.norm)?,
            column: self.column,
        })
    }
}

impl OwnInput<LinearView<'_>, NormView<'_>> {
    /// Of the rows of `x` `[R, hidden]`, whose inputs of all blocks are `inputs`: `y` `[R, hidden]`.
    pub(super) fn add(
        &self,
        cpu: &Cpu,
        x: View<'_>,
        inputs: View<'_>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let out = self.projected(cpu, x, inputs)?;
        let addend = Addend {
            x: out.view()?,
            norm: Some(self.norm),
        };
        add_norm(cpu, x, addend, y)
    }

    /// What is added, before its norm.
    pub(super) fn projected(
        &self,
        cpu: &Cpu,
        x: View<'_>,
        inputs: View<'_>,
    ) -> Result<Intermediate> {
        let (layout, width) = (x.layout(), self.gate.weight.rows());
        let own = inputs.slice_cols(self.column..self.column + width)?;
        let room = |cols| Intermediate::take(layout.dtype, layout.rows, cols);
        let (mut gate, mut inner, mut out) = (room(width), room(width), room(layout.cols));
        product(cpu, x, &self.gate, gate.view_mut()?)?;
        let to = inner.view_mut()?;
        gated(cpu, self.activation, gate.view()?, own, to)?;
        product(cpu, inner.view()?, &self.projection, out.view_mut()?)?;
        Ok(out)
    }
}
