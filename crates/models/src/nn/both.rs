//! A gated MLP and a mixture of experts beside each other, each with norms of its own (Gemma 4).

use kernels::graph::{self, AllExperts, Linear as KernelLinear, Norm};
use mlx_core::Array;

use super::linear::Matrix;
use super::{Experts, GatedMlp, Linear, RmsNorm};
use crate::Result;
use crate::weights::Source;

/// See [`arch::Both`].
pub(crate) struct Both {
    gated: GatedMlp,
    after: RmsNorm,
    experts_before: RmsNorm,
    experts: Experts,
    experts_after: Option<RmsNorm>,
}

impl Both {
    pub(super) fn load(source: &Source<'_>, both: &arch::Both<String>) -> Result<Self> {
        let norm = |norm| RmsNorm::load(source, norm);
        let experts = &both.experts;
        Ok(Self {
            gated: GatedMlp::load(source, &both.gated)?,
            after: norm(&both.after)?,
            experts_before: norm(&experts.before)?,
            experts: Experts::load(source, &experts.part)?,
            experts_after: experts.after.as_ref().map(norm).transpose()?,
        })
    }

    /// `x [L, hidden]`, the norm of the residual `stream`, to the same shape. `plain` are the matrices of the MLP, if
    /// they have been unpacked.
    pub(super) fn forward(
        &self,
        x: &Array,
        stream: &Array,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        let of_all = self.after.forward(&self.gated.forward(x, plain)?)?;
        let seen = self.experts_before.forward(stream)?;
        let of_some = self.experts.forward(&seen, stream)?;
        let after = self.experts_after.as_ref().map(RmsNorm::as_norm);
        Ok(graph::residual(&of_all, &of_some, after)?)
    }

    /// For operations that have it in them; `None` without a norm behind the experts.
    pub(super) fn as_one(&self) -> Option<graph::Both<KernelLinear<'_>, Norm<'_>, AllExperts<'_>>> {
        Some(graph::Both {
            gated: self.gated.as_one(),
            after: self.after.as_norm(),
            experts_before: self.experts_before.as_norm(),
            experts: self.experts.as_one(),
            experts_after: self.experts_after.as_ref()?.as_norm(),
        })
    }

    pub(super) fn gated(&self) -> &GatedMlp {
        &self.gated
    }

    pub(super) fn experts(&self) -> &Experts {
        &self.experts
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        [self.gated.linears(), self.experts.linears()].concat()
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let norms = [&self.after, &self.experts_before];
        let norms = norms.into_iter().chain(&self.experts_after);
        let mut arrays: Vec<&Array> = norms.flat_map(RmsNorm::arrays).collect();
        arrays.extend(self.gated.arrays());
        arrays.extend(self.experts.arrays());
        arrays
    }
}
