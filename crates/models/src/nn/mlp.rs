//! The gated MLP.

use kernels::graph::{self, Activation};
use mlx_core::Array;

use super::Linear;
use crate::Result;
use crate::weights::Loader;

/// `down(activation(gate(x)) * up(x))`.
pub(crate) struct GatedMlp {
    pub(super) gate_proj: Linear,
    pub(super) up_proj: Linear,
    pub(super) down_proj: Linear,
    pub(super) activation: Activation,
}

impl GatedMlp {
    pub(crate) fn load(at: &Loader<'_>, activation: Activation) -> Result<Self> {
        Ok(Self {
            gate_proj: Linear::load(&at.pp("gate_proj"), false)?,
            up_proj: Linear::load(&at.pp("up_proj"), false)?,
            down_proj: Linear::load(&at.pp("down_proj"), false)?,
            activation,
        })
    }

    /// `x [.., hidden]` to the same shape.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let [gate, up] = Linear::forward_all(x, [&self.gate_proj, &self.up_proj])?;
        self.down_proj
            .forward(&graph::gated(self.activation, &gate, &up)?)
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        [&self.gate_proj, &self.up_proj, &self.down_proj]
            .into_iter()
            .flat_map(Linear::arrays)
            .collect()
    }
}
