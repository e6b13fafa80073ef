//! The gated MLP of a block.

use crate::gated::{Activation, gated_above};
use crate::linear::{Intermediate, LinearView, product, products};
use crate::{Cpu, Result, View, ViewMut};

/// `down(activation(gate(x)) · up(x))`; `W` is a linear map.
#[derive(Clone, Copy, Debug)]
pub struct Gated<W> {
    /// `[intermediate, hidden]`.
    pub gate: W,
    /// `[intermediate, hidden]`.
    pub up: W,
    /// `[hidden, intermediate]`.
    pub down: W,
    /// Of the gate.
    pub activation: Activation,
    /// Of a row's gate only what is above its mean by more than so many times its standard deviation counts, and by
    /// how much it is.
    pub cut: Option<f32>,
}

impl<W> Gated<W> {
    /// The same with its maps as something else.
    pub(crate) fn try_map<'a, W2, E>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, E>,
    ) -> Result<Gated<W2>, E> {
        Ok(Gated {
            gate: weight(&self.gate)?,
            up: weight(&self.up)?,
            down: weight(&self.down)?,
            activation: self.activation,
            cut: self.cut,
        })
    }
}

/// The rows of `x` through `mlp`; between the products they have the element type of `x`.
///
/// # Errors
/// When sizes disagree.
pub(crate) fn gated_mlp(
    cpu: &Cpu,
    x: View<'_>,
    mlp: &Gated<LinearView<'_>>,
    y: ViewMut<'_>,
) -> Result<()> {
    let (rows, width, dtype) = (x.layout().rows, mlp.gate.weight.rows(), x.layout().dtype);
    let room = || Intermediate::take(dtype, rows, width);
    let (mut gate, mut up) = (room(), room());
    let parts = [(&mlp.gate, gate.view_mut()?), (&mlp.up, up.view_mut()?)];
    products(cpu, x, parts.into())?;
    let mut inner = room();
    gated_above(
        cpu,
        mlp.activation,
        mlp.cut,
        gate.view()?,
        up.view()?,
        inner.view_mut()?,
    )?;
    product(cpu, inner.view()?, &mlp.down, y)
}
