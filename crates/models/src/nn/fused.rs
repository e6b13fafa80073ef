//! A whole model as one kernel, for the next token of one sequence or of several.

use std::cell::OnceCell;

use kernels::decode::{TokenModel, TokenStep};
use kernels::graph::{Norm, Weight};
use mlx_core::Array;

use super::{Embedding, Linear, RmsNorm, Stack};
use crate::Result;
use crate::cache::Cache;

/// The kernel, where there is one for the model and the device: found out when first needed.
#[derive(Default)]
pub(crate) struct Fused {
    step: OnceCell<Option<TokenStep>>,
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
        step.map_or(usize::MAX, TokenStep::together)
    }

    fn step(&self, layers: &Stack, ends: &Ends<'_>) -> Result<Option<&TokenStep>> {
        if let Some(step) = self.step.get() {
            return Ok(step.as_ref());
        }
        let step = match ends.model(layers) {
            Some(model) => TokenStep::new(&model)?,
            None => None,
        };
        Ok(self.step.get_or_init(|| step).as_ref())
    }
}

impl<'a> Ends<'a> {
    fn model(&self, layers: &'a Stack) -> Option<TokenModel<'a>> {
        let embedding: Weight<'a> = self.embedding.as_weight();
        let norm: Norm<'a> = self.norm.as_norm();
        Some(TokenModel {
            blocks: layers.blocks()?,
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
