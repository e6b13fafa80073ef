//! The products of an attention's input.

use kernels::graph::{Columns, Linear as KernelLinear};
use mlx_core::Array;

use super::linear::Matrix;
use super::{Linear, Projections};
use crate::Result;
use crate::weights::Source;

/// Queries, and what a layer adds to its state.
pub(crate) enum Inputs {
    /// Queries, keys and values.
    All(Projections<3>),
    /// Queries, and keys of which values are made.
    Keys(Projections<2>),
    /// Queries of a layer that adds nothing.
    Queries(Linear),
}

impl Inputs {
    pub(super) fn load(source: &Source<'_>, of: &arch::Attention<String>) -> Result<Self> {
        let linear = |linear| Linear::load(source, linear);
        let q = linear(&of.q)?;
        Ok(match (&of.k, &of.v) {
            (Some(k), Some(v)) => Self::All(Projections::new([q, linear(k)?, linear(v)?])?),
            (Some(k), None) => Self::Keys(Projections::new([q, linear(k)?])?),
            (None, _) => Self::Queries(q),
        })
    }

    /// One matrix of all.
    pub(super) fn joined(&self) -> Option<&Matrix> {
        match self {
            Self::All(all) => all.joined(),
            Self::Keys(all) => all.joined(),
            Self::Queries(q) => Some(q.matrix()),
        }
    }

    /// `x [L, hidden]` to queries, and to keys and values; `plain` is the one matrix, if it has been unpacked.
    pub(super) fn forward(
        &self,
        x: &Array,
        plain: Option<&Matrix>,
    ) -> Result<(Columns, Option<[Columns; 2]>)> {
        Ok(match self {
            Self::All(all) => {
                let [queries, keys, values] = all.forward(x, plain)?;
                (queries, Some([keys, values]))
            }
            Self::Keys(all) => {
                let [queries, keys] = all.forward(x, plain)?;
                (queries, Some([keys.clone(), keys]))
            }
            Self::Queries(q) => (Columns::all(q.forward_with(x, plain)?), None),
        })
    }

    /// Whether a layer adds to its state.
    pub(super) fn writes(&self) -> bool {
        !matches!(self, Self::Queries(_))
    }

    /// Each map.
    pub(super) fn maps(&self) -> Vec<&Linear> {
        match self {
            Self::All(all) => all.maps().iter().collect(),
            Self::Keys(all) => all.maps().iter().collect(),
            Self::Queries(q) => vec![q],
        }
    }

    /// For operations that have the products in them: queries, keys, values.
    pub(super) fn as_linears(&self) -> (KernelLinear<'_>, [Option<KernelLinear<'_>>; 2]) {
        match self {
            Self::All(all) => {
                let [q, k, v] = all.as_linears();
                (q, [Some(k), Some(v)])
            }
            Self::Keys(all) => {
                let [q, k] = all.as_linears();
                (q, [Some(k), None])
            }
            Self::Queries(q) => (q.as_linear(), [None, None]),
        }
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::All(all) => all.arrays(),
            Self::Keys(all) => all.arrays(),
            Self::Queries(q) => q.arrays(),
        }
    }
}
