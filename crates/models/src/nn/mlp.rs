//! The gated MLP, and what stands in its place in mixtures of experts.

use kernels::graph::{self, Activation, Columns, Gated, Linear as KernelLinear};
use mlx_core::{Array, Dtype, ops};

use super::linear::Matrix;
use super::{Both, Experts, Linear, Projections};
use crate::Result;
use crate::weights::Source;

/// The part of a block that does not mix positions.
pub(crate) enum Mlp {
    Gated(Box<GatedMlp>),
    Experts(Box<Experts>),
    Both(Box<Both>),
}

/// The kernels' form of one.
type KernelMlp<'a> = graph::Mlp<KernelLinear<'a>, graph::Norm<'a>, graph::AllExperts<'a>>;

impl Mlp {
    pub(crate) fn load(source: &Source<'_>, mlp: &arch::Mlp<String>) -> Result<Self> {
        Ok(match mlp {
            arch::Mlp::Gated(mlp) => Self::Gated(Box::new(GatedMlp::load(source, mlp)?)),
            arch::Mlp::Experts(mlp) => Self::Experts(Box::new(Experts::load(source, mlp)?)),
            arch::Mlp::Both(mlp) => Self::Both(Box::new(Both::load(source, mlp)?)),
        })
    }

    /// What the products multiply with, if that is the same for all rows.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        match self {
            Self::Gated(mlp) => mlp.matrices(),
            Self::Experts(_) => [None, None],
            Self::Both(mlp) => mlp.gated().matrices(),
        }
    }

    /// `x [L, hidden]`, the norm of the residual `stream`, to the same shape. `plain` are the matrices, if they have
    /// been unpacked.
    pub(super) fn forward(
        &self,
        x: &Array,
        stream: &Array,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        match self {
            Self::Gated(mlp) => mlp.forward(x, plain),
            Self::Experts(mlp) => mlp.forward(x, x),
            Self::Both(mlp) => mlp.forward(x, stream, plain),
        }
    }

    /// For operations that have it in them; `None` of a part that those lack.
    pub(super) fn as_one(&self) -> Option<KernelMlp<'_>> {
        Some(match self {
            Self::Gated(mlp) => graph::Mlp::Gated(mlp.as_one()),
            Self::Experts(mlp) => graph::Mlp::Experts(mlp.as_one()),
            Self::Both(mlp) => graph::Mlp::Both(mlp.as_one()?),
        })
    }

    /// Makes one array of experts that are held by themselves.
    pub(super) fn stack_experts(&self) -> Result<()> {
        match self {
            Self::Gated(_) => Ok(()),
            Self::Experts(mlp) => mlp.stack(),
            Self::Both(mlp) => mlp.experts().stack(),
        }
    }

    /// The linear maps that all rows go through.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Gated(mlp) => mlp.linears(),
            Self::Experts(mlp) => mlp.linears(),
            Self::Both(mlp) => mlp.linears(),
        }
    }

    /// What products with chosen matrices make of a row, in numbers, and as much again between them.
    pub(super) fn numbers_a_row(&self) -> usize {
        match self {
            Self::Gated(_) => 0,
            Self::Experts(mlp) => mlp.numbers_a_row(),
            Self::Both(mlp) => mlp.experts().numbers_a_row(),
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Gated(mlp) => mlp.arrays(),
            Self::Experts(mlp) => mlp.arrays(),
            Self::Both(mlp) => mlp.arrays(),
        }
    }
}

/// `down(activation(gate(x)) * up(x))`.
pub(crate) struct GatedMlp {
    /// Gate and up.
    pub(super) gate_up: Projections<2>,
    pub(super) down_proj: Linear,
    pub(super) activation: Activation,
    /// What is cut off a row's gate: see [`arch::Gated::cut`].
    pub(super) cut: Option<f32>,
}

impl GatedMlp {
    pub(crate) fn load(source: &Source<'_>, mlp: &arch::Gated<String>) -> Result<Self> {
        let linear = |linear| Linear::load(source, linear);
        Ok(Self {
            gate_up: Projections::new([linear(&mlp.gate)?, linear(&mlp.up)?])?,
            down_proj: linear(&mlp.down)?,
            activation: activation(mlp.activation),
            cut: mlp.cut.map(|cut| cut as f32),
        })
    }

    /// What the products multiply with: one matrix for gate and up, and the one behind them.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        [self.gate_up.joined(), Some(self.down_proj.matrix())]
    }

    /// `x [.., hidden]` to the same shape. `plain` are the matrices, if they have been unpacked.
    pub(super) fn forward(&self, x: &Array, plain: [Option<Matrix>; 2]) -> Result<Array> {
        let [gate_up, down] = plain;
        let [mut gate, up] = self.gate_up.forward(x, gate_up.as_ref())?;
        if let Some(cut) = self.cut {
            gate = Columns::all(above(&gate.to_array()?, cut)?);
        }
        let gated = graph::gated(self.activation, &gate, &up)?;
        self.down_proj.forward_with(&gated, down.as_ref())
    }

    pub(super) fn as_one(&self) -> Gated<KernelLinear<'_>> {
        let [gate, up] = self.gate_up.as_linears();
        Gated {
            gate,
            up,
            down: self.down_proj.as_linear(),
            activation: self.activation,
            cut: self.cut,
        }
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        self.gate_up
            .maps()
            .iter()
            .chain([&self.down_proj])
            .collect()
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        [self.gate_up.arrays(), self.down_proj.arrays()].concat()
    }
}

/// What of each row of `x [.., N]` is above its mean by more than `cut` times its standard deviation, less that;
/// else 0.
fn above(x: &Array, cut: f32) -> Result<Array> {
    let wide = x.cast(Dtype::Float32)?;
    let centered = ops::sub(&wide, &ops::mean(&wide, &[-1], true)?)?;
    let variance = ops::mean(&ops::square(&centered)?, &[-1], true)?;
    let threshold = ops::mul(&ops::sqrt(&variance)?, &Array::scalar(cut)?)?;
    let above = ops::sub(&centered, &threshold)?;
    Ok(ops::maximum(&above, &Array::scalar(0.0f32)?)?.cast(x.dtype())?)
}

/// The kernels' name of an activation.
pub(super) fn activation(of: arch::Activation) -> Activation {
    match of {
        arch::Activation::Silu => Activation::Silu,
        arch::Activation::GeluTanh => Activation::GeluTanh,
        arch::Activation::Clamped { limit, alpha } => Activation::Clamped {
            limit: (limit as f32).min(f32::MAX),
            alpha: alpha as f32,
        },
    }
}
