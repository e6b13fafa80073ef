//! The gated MLP.

use kernels::graph::{self, Activation};
use mlx_core::Array;

use super::linear::Matrix;
use super::{Linear, Projections};
use crate::Result;
use crate::weights::Source;

/// `down(activation(gate(x)) * up(x))`.
pub(crate) struct GatedMlp {
    /// Gate and up.
    pub(super) gate_up: Projections<2>,
    pub(super) down_proj: Linear,
    pub(super) activation: Activation,
}

impl GatedMlp {
    pub(crate) fn load(source: &Source<'_>, mlp: &arch::Mlp<String>) -> Result<Self> {
        let linear = |linear| Linear::load(source, linear);
        Ok(Self {
            gate_up: Projections::new([linear(&mlp.gate)?, linear(&mlp.up)?])?,
            down_proj: linear(&mlp.down)?,
            activation: match mlp.activation {
                arch::Activation::Silu => Activation::Silu,
                arch::Activation::GeluTanh => Activation::GeluTanh,
            },
        })
    }

    /// What the products multiply with: one matrix for gate and up, and the one behind them.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        [self.gate_up.joined(), Some(self.down_proj.matrix())]
    }

    /// `x [.., hidden]` to the same shape. `plain` are the matrices, if they have been unpacked.
    pub(super) fn forward(&self, x: &Array, plain: [Option<Matrix>; 2]) -> Result<Array> {
        let [gate_up, down] = plain;
        let [gate, up] = self.gate_up.forward(x, gate_up.as_ref())?;
        let gated = graph::gated(self.activation, &gate, &up)?;
        self.down_proj.forward_with(&gated, down.as_ref())
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        [self.gate_up.arrays(), self.down_proj.arrays()].concat()
    }
}
