//! What the generate loop asks of a model.
//!
//! The loop's rules (when to stop, what to hand out, when to look at the cancel token) are the same
//! for every model and every device, and they are where the mistakes hide. So they see the model
//! through this trait alone, and their tests run a scripted model with no MLX at all.

use crate::Result;
use crate::plan::Plan;

/// A model with one set of KV caches and a sampler.
pub(crate) trait LanguageModel {
    /// A sampled token that the device may still be computing.
    type Token;

    /// Makes the caches and the sampler ready for `plan`. Returns how many tokens of the prompt are in
    /// the caches already, fewer than all: none, unless the plan allows it.
    fn begin(&mut self, plan: &Plan) -> Result<usize>;

    /// Runs `ids` into the caches and waits for it. No logits are computed.
    fn prefill(&mut self, ids: &[u32]) -> Result<()>;

    /// Submits the end of the prompt and the sampling of the first token; does not wait.
    fn first(&mut self, ids: &[u32]) -> Result<Self::Token>;

    /// Submits one more step after `token`, which need not be known yet; does not wait.
    fn next(&mut self, token: &Self::Token) -> Result<Self::Token>;

    /// Waits for a token.
    fn read(&mut self, token: Self::Token) -> Result<u32>;

    /// Float32 logits of every position, `[ids.len(), vocabulary]`, row by row.
    fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>>;

    /// What is held now, and the peak since [`begin`](Self::begin).
    fn memory(&mut self) -> Result<MemoryUse>;

    /// Gives freed buffers back to the machine.
    fn release_buffers(&mut self) -> Result<()>;

    /// Between requests: gives back what only a large one needs. Cannot fail.
    fn rest(&mut self);

    /// When a model has gone, or could not be loaded, on its thread: gives back what was kept for it. Cannot
    /// fail.
    fn released();

    /// Frees the caches, also after a panic left them in an unknown state.
    fn drop_caches(&mut self) -> Result<()>;
}

/// What MLX holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// In arrays that are alive.
    pub(crate) active: u64,
    /// The most that `active` was since the generation began.
    pub(crate) peak: u64,
    /// What the weights and caches of all models of this process take: like the other two, not this
    /// model's alone.
    pub(crate) accounted: u64,
}
