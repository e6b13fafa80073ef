//! The keys of mixtures of experts, which Qwen's families have.

use super::common::layer_count;
use crate::fields::Fields;
use crate::layers::{At, Mixture};
use crate::{Activation, Mlp, Result};

/// Experts, and the layers that have them.
pub(super) struct Sparse {
    mixture: Mixture,
    /// For each layer.
    sparse: Vec<bool>,
}

/// What may be left out.
pub(super) struct Defaults {
    pub(super) count: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    /// Features inside the shared expert, of families that have one.
    pub(super) shared: Option<usize>,
    pub(super) renormalised: bool,
    /// Whether `norm_topk_prob` and the keys that name layers without experts are read: of a family that has none of
    /// them, transformers ignores what a file says there.
    pub(super) varies: bool,
}

impl Sparse {
    pub(super) fn read(f: &Fields<'_>, defaults: &Defaults) -> Result<Self> {
        // transformers 5 writes the second one.
        let key = match f.has("num_experts") {
            true => "num_experts",
            false => "num_local_experts",
        };
        let count = f.count(key)?.unwrap_or(defaults.count);
        let top = f.size("num_experts_per_tok")?.unwrap_or(defaults.top);
        if count > 0 && top > count {
            let problem =
                format!("{top} of {count} experts; a token cannot have more than there are");
            return Err(f.problem("num_experts_per_tok", problem));
        }
        let shared = match defaults.shared {
            Some(default) => {
                let key = "shared_expert_intermediate_size";
                Some(f.size(key)?.unwrap_or(default))
            }
            None => None,
        };
        let width = f.size("moe_intermediate_size")?.unwrap_or(defaults.width);
        Ok(Self {
            mixture: Mixture {
                count,
                top,
                renormalised: match defaults.varies {
                    true => f.flag("norm_topk_prob")?.unwrap_or(defaults.renormalised),
                    false => defaults.renormalised,
                },
                width,
                shared,
            },
            sparse: match count {
                0 => vec![false; layer_count(f)?],
                _ if defaults.varies => sparse_layers(f)?,
                _ => vec![true; layer_count(f)?],
            },
        })
    }

    /// The MLP of the layer `at`.
    pub(super) fn mlp(&self, at: &At<'_>, activation: Activation) -> Mlp<String> {
        match self.sparse.get(at.layer) {
            Some(true) => at.experts(&self.mixture, activation),
            _ => at.mlp(activation),
        }
    }
}

/// Every `decoder_sparse_step`th layer, but for those of `mlp_only_layers`.
fn sparse_layers(f: &Fields<'_>) -> Result<Vec<bool>> {
    let step = f.size("decoder_sparse_step")?.unwrap_or(1);
    let layers = 0..layer_count(f)?;
    let mut sparse: Vec<bool> = layers.map(|i| (i + 1).is_multiple_of(step)).collect();
    let Some(value) = f.value("mlp_only_layers") else {
        return Ok(sparse);
    };
    let wrong = || {
        f.problem(
            "mlp_only_layers",
            format!("expected a list of layers, found {value}"),
        )
    };
    for layer in value.as_array().ok_or_else(wrong)? {
        let layer = layer.as_u64().ok_or_else(wrong)?;
        // One that there is not, as transformers has it, means nothing.
        if let Some(sparse) = usize::try_from(layer).ok().and_then(|i| sparse.get_mut(i)) {
            *sparse = false;
        }
    }
    Ok(sparse)
}
