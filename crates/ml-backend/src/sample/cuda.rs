//! Drawing by CUDA kernels that have all stages, where the logits are.
//!
//! They are a [`Chain`](super::Chain)'s, but for those that need the host: constraints, processors, and probabilities
//! that are told. The same random numbers decide in the same way, so of the same logits the same tokens are drawn.

use kernels::draw::{Dry, Stages};
use kernels::graph::{self, DrawSlot, Drawn};
use mlx_core::Array;

use super::Sampling;
use crate::Result;

/// More tokens of an answer than these are not looked back at: there would have to be room for all from the start.
const MOST_TOKENS: usize = 1 << 20;

/// A [`Sampling`] under way on a GPU.
pub(super) struct OnGpu {
    sampling: Sampling,
    /// What is looked back at before there is an answer, until there is a slot.
    prompt: Vec<u32>,
    /// Once the vocabulary is known.
    slot: Option<DrawSlot>,
}

impl OnGpu {
    /// `None` where the kernels do not serve.
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Result<Option<Self>> {
        let needs_host = sampling.tells();
        let is_long = sampling.looks_back() && sampling.max_tokens > MOST_TOKENS;
        if needs_host || is_long || !DrawSlot::serves()? {
            return Ok(None);
        }
        let looks_back = sampling.looks_back();
        Ok(Some(Self {
            sampling: sampling.clone(),
            prompt: if looks_back {
                prompt.to_vec()
            } else {
                Vec::new()
            },
            slot: None,
        }))
    }

    fn slot(&mut self, vocabulary: usize) -> Result<&DrawSlot> {
        let slot = match self.slot.take() {
            Some(slot) => slot,
            None => {
                // Of each step one more is submitted before anybody knows that it was the last one.
                let capacity = self.prompt.len().saturating_add(self.sampling.max_tokens) + 2;
                let stages = stages(&self.sampling);
                let slot = DrawSlot::new(&stages, vocabulary, &self.prompt, capacity)?;
                self.prompt = Vec::new();
                slot
            }
        };
        Ok(self.slot.insert(slot))
    }
}

/// Draws for each of `rows` from its row of `logits` `[N, V]`; nothing is evaluated.
pub(super) fn draw(rows: &mut [&mut OnGpu], logits: &Array) -> Result<Drawn> {
    let vocabulary = logits.dim(1).unsigned_abs() as usize;
    let slots = rows.iter_mut().map(|row| row.slot(vocabulary));
    let slots = slots.collect::<Result<Vec<_>>>()?;
    Ok(graph::draw_by_slots(logits, &slots, None)?)
}

fn stages(sampling: &Sampling) -> Stages<'_> {
    let repetition = sampling.repetition.as_ref();
    Stages {
        biases: &sampling.biases,
        repetition: repetition.map(|repetition| (repetition.penalty, repetition.context)),
        presence: sampling.penalties.presence,
        frequency: sampling.penalties.frequency,
        window: sampling.penalties.context,
        dry: sampling.dry.as_ref().map(|dry| Dry {
            multiplier: dry.multiplier,
            base: dry.base,
            allowed_length: dry.allowed_length,
            context: dry.context,
            breakers: &dry.breakers,
        }),
        allowed: sampling.allowed.as_deref(),
        filters: sampling.filters(sampling.xtc),
        xtc_probability: sampling.xtc.map_or(0.0, |xtc| xtc.probability),
        seed: sampling.seed,
    }
}
