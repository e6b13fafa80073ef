//! A whole model as one kernel, for the next token of one sequence or of several.

use std::cell::OnceCell;

use kernels::decode::{TokenModel, TokenStep};
use kernels::graph::{Norm, Slot, Weight};
use kernels::steps::{ListedStep, Memories, Nets, Plan};
use mlx_core::{Array, Dtype};

use super::{Embedding, Linear, PerLayerInputs, RmsNorm, Stack};
use crate::Result;
use crate::cache::Cache;

/// The kernel, where there is one for the model and the device: found out when first needed.
#[derive(Default)]
pub(crate) struct Fused {
    step: OnceCell<Option<WholeStep>>,
}

/// A token through a whole model in one launch.
pub(super) enum WholeStep {
    /// Of blocks that are alike; also of several sequences.
    Alike(TokenStep),
    /// Of others, step by step.
    Listed(ListedStep),
}

impl WholeStep {
    fn new(model: &TokenModel<'_>) -> Result<Option<Self>> {
        if let Some(step) = TokenStep::new(model)? {
            return Ok(Some(Self::Alike(step)));
        }
        Ok(ListedStep::new(model)?.map(Self::Listed))
    }

    fn runs_here(&self) -> Result<bool> {
        Ok(match self {
            Self::Alike(step) => step.runs_here()?,
            Self::Listed(step) => step.runs_here()?,
        })
    }

    /// Sequences that it takes at the most.
    fn together(&self) -> usize {
        match self {
            Self::Alike(step) => step.together(),
            Self::Listed(_) => 1,
        }
    }

    /// Of keys and values.
    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Self::Alike(_) => Dtype::Bfloat16,
            Self::Listed(step) => step.dtype(),
        }
    }

    /// The gated delta nets among the blocks.
    pub(super) fn nets(&self) -> Option<Nets> {
        match self {
            Self::Alike(_) => None,
            Self::Listed(step) => step.nets(),
        }
    }

    /// The tokens `ids [N]` at positions `offsets`, one of each of N sequences: float32 logits `[N, vocab]`. What the
    /// nets remember of a sequence is replaced.
    pub(super) fn run(
        &self,
        ids: &Array,
        offsets: &[i32],
        slots: &mut [Vec<Slot>],
        memories: &mut Option<Memories>,
    ) -> Result<Array> {
        Ok(match (self, offsets) {
            (Self::Alike(step), offsets) => step.run(ids, offsets, slots)?,
            (Self::Listed(step), offsets) => {
                let offset = offsets.first().copied().unwrap_or(0);
                step.run(ids, offset, slots, memories)?
            }
        })
    }
}

/// What a family is made of beside its blocks.
pub(crate) struct Ends<'a> {
    pub(crate) embedding: &'a Embedding,
    /// Factor of embeddings.
    pub(crate) embed_scale: f64,
    pub(crate) norm: &'a RmsNorm,
    /// Absent where the embedding is the head.
    pub(crate) head: Option<&'a Linear>,
    pub(crate) softcap: Option<f64>,
    /// What layers have of tokens beside the residual stream.
    pub(crate) per_layer: Option<&'a PerLayerInputs>,
}

impl Fused {
    /// Float32 logits `[N, vocab]` of the tokens `ids`, int32 `[N]`, which follow those in the N `caches`, as
    /// many as one kernel takes, and are added to them; `None`, and nothing done, where the single operations
    /// have to do it.
    pub(crate) fn logits(
        &self,
        layers: &Stack,
        ends: &Ends<'_>,
        ids: &Array,
        caches: &mut [&mut Cache],
    ) -> Result<Option<Array>> {
        match self.step(layers, ends)? {
            Some(step) if step.runs_here()? && caches.len() <= step.together() => {
                Ok(Some(layers.decode(step, ids, caches)?))
            }
            _ => Ok(None),
        }
    }

    /// Sequences that one kernel takes, where there is one.
    pub(crate) fn together(&self) -> usize {
        let step = self.step.get().and_then(Option::as_ref);
        step.map_or(usize::MAX, WholeStep::together)
    }

    fn step(&self, layers: &Stack, ends: &Ends<'_>) -> Result<Option<&WholeStep>> {
        if let Some(step) = self.step.get() {
            return Ok(step.as_ref());
        }
        let step = match ends.model(layers) {
            Some(model) => WholeStep::new(&model)?,
            None => None,
        };
        Ok(self.step.get_or_init(|| step).as_ref())
    }
}

impl<'a> Ends<'a> {
    /// The list of a token's steps, if there is one.
    pub(crate) fn listed(
        &self,
        layers: &'a Stack,
        multiprocessors: u32,
        warps: u32,
    ) -> Result<Option<Plan>> {
        match self.model(layers) {
            Some(model) => Ok(Plan::of(&model, multiprocessors, warps)?),
            None => Ok(None),
        }
    }

    fn model(&self, layers: &'a Stack) -> Option<TokenModel<'a>> {
        let embedding: Weight<'a> = self.embedding.as_weight();
        let norm: Norm<'a> = self.norm.as_norm();
        Some(TokenModel {
            blocks: layers.blocks()?,
            states: layers.states(),
            own_inputs: self.per_layer.map(PerLayerInputs::as_one),
            embedding,
            embed_scale: self.embed_scale,
            norm,
            head: match self.head {
                Some(head) => head.as_linear().weight,
                None => embedding,
            },
            softcap: self.softcap,
        })
    }
}
