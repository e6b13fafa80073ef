//! What generating asks of a model.
//!
//! The rules (when to stop, what to hand out, when to look at the cancel token, who comes next) are the
//! same for every model and every device, and they are where the mistakes hide. So they see the model
//! through this trait alone, and their tests run a scripted model with no MLX at all.

use crate::embedding::Mode;
use crate::request::Request;
use crate::{Result, TokenLogprobs};

/// A sequence that a model holds: caches and a sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceId(pub(crate) usize);

/// What a text is read for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// Its hidden states, made one.
    Pooled {
        /// In each of these ways, one vector behind the other.
        modes: Vec<Mode>,
        /// Tokens at the beginning that do not count.
        skip: usize,
    },
    /// The logits of these tokens, each in the vocabulary.
    Next(Vec<u32>),
}

/// A token that was drawn and read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampled {
    pub(crate) id: u32,
    /// Whether the answer ends with it, and it is part of that.
    pub(crate) ends: bool,
    /// How probable it was, where that is asked for.
    pub(crate) logprobs: Option<TokenLogprobs>,
}

impl From<u32> for Sampled {
    fn from(id: u32) -> Self {
        Self {
            id,
            ends: false,
            logprobs: None,
        }
    }
}

/// A model and the sequences that it holds.
pub(crate) trait LanguageModel {
    /// A sampled token that the device may still be computing.
    type Token;

    /// Makes caches and a sampler for `request`. Returns how many tokens of the prompt are in the caches
    /// already, fewer than all.
    fn begin(&mut self, request: &Request) -> Result<(SequenceId, usize)>;

    /// How many tokens of its prompt are in the caches of a sequence that has begun, once nothing is on its way there
    /// from disk; `None` as long as something is. To be asked until it says, before the prompt is read. Does not wait.
    fn fetched(&mut self, sequence: SequenceId) -> Result<Option<usize>>;

    /// Goes on with what nobody waits for, for a moment. Whether there is more of it, so that it should be asked again
    /// soon.
    fn background(&mut self) -> bool;

    /// Whether there is memory for the caches of these requests at once, when each has generated so many tokens. What
    /// is kept for prompts to come goes for it.
    fn has_room(&mut self, requests: &[(&Request, usize)]) -> bool;

    /// Frees the caches of a sequence, and those that no sequence has.
    fn put_aside(&mut self, sequence: SequenceId);

    /// A sequence that was put aside goes on: what [`prefill`](Self::prefill) and [`replay`](Self::replay) now run
    /// into its new caches is what was in the old ones.
    fn resume(&mut self, sequence: SequenceId);

    /// Runs `ids` into the caches and waits for it. No logits are computed. False where it paused because `more`
    /// said so: called again, with the same `ids`, it goes on.
    fn prefill(
        &mut self,
        sequence: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> Result<bool>;

    /// Runs tokens into the caches again, one step each as at the first time, and waits for it. Nothing is drawn.
    fn replay(&mut self, sequence: SequenceId, ids: &[u32]) -> Result<()>;

    /// Submits the end of the prompt and the sampling of the first token; does not wait. `None` where it paused,
    /// as [`prefill`](Self::prefill) does.
    fn first(
        &mut self,
        sequence: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Self::Token>>;

    /// Whether [`copy`](Self::copy) can be.
    fn can_copy(&self) -> bool;

    /// A second sequence for another request with the same prompt, in the caches of one that has read it and drawn
    /// its [`first`](Self::first) token, no more; and the first token of this one. The request of the other said that
    /// there are [copies](Request::has_copies).
    fn copy(&mut self, of: SequenceId, request: &Request) -> Result<(SequenceId, Self::Token)>;

    /// Submits one more step of each of these sequences after its token, which need not be known yet; does
    /// not wait. A token for each, or its failure, after which it cannot go on.
    ///
    /// # Errors
    /// When nothing could be submitted: all of them are as they were.
    fn next(&mut self, steps: &[(SequenceId, &Self::Token)]) -> Result<Vec<Result<Self::Token>>>;

    /// Waits for a token.
    fn read(&mut self, sequence: SequenceId, token: Self::Token) -> Result<Sampled>;

    /// How probable the tokens of the prompt were, all but the first, where its request asks for it. Once, when the
    /// prompt has been read.
    fn prompt_logprobs(&mut self, sequence: SequenceId) -> Vec<TokenLogprobs>;

    /// The sequence goes on no more. Its caches may serve a prompt that begins like it, until the next
    /// [`begin`](Self::begin).
    fn end(&mut self, sequence: SequenceId);

    /// Float32 logits of every position, `[ids.len(), vocabulary]`, row by row.
    fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>>;

    /// How many of the texts, of so many tokens each, are best read at once: the first, and those behind it that give
    /// the same beside it, to the bit, as by themselves.
    fn texts_together(&self, lengths: &[usize], want: &Reading) -> usize;

    /// Whether there is memory for reading texts of so many tokens beside the sequences that go on.
    fn has_room_for_texts(&mut self, lengths: &[usize]) -> bool;

    /// Of each text by itself: its hidden states as one vector, or float32 logits of some tokens behind it.
    fn read_texts(&mut self, texts: &[&[u32]], want: &Reading) -> Result<Vec<Vec<f32>>>;

    /// What is held now, and the peak since a [`begin`](Self::begin) when no sequence was held.
    fn memory(&mut self) -> Result<MemoryUse>;

    /// Gives freed buffers back to the machine.
    fn release_buffers(&mut self) -> Result<()>;

    /// When nothing is to be done: gives back what only a large request needs. Cannot fail.
    fn rest(&mut self);

    /// When a model has gone, or could not be loaded, on its thread: gives back what was kept for it. Cannot
    /// fail.
    fn released();

    /// Frees the caches of a sequence, also after a panic left them in an unknown state, and those that
    /// no sequence has.
    fn drop_caches(&mut self, sequence: Option<SequenceId>) -> Result<()>;
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
