//! One readable file a model family: its block and how blocks become hidden states. What families
//! share is in [`crate::nn`].

mod gemma3;
mod qwen3;

use mlx_core::Array;

use crate::Result;
use crate::cache::Cache;
use crate::config::{Config, Family};
use crate::weights::Parts;

/// From token ids to normalized hidden states, and from those to logits.
pub(crate) trait Decoder {
    /// `ids [L]`, the tokens that follow those in `cache`, to the normalized hidden states of the
    /// last `rows` of them, `[rows, hidden]`. Adds L tokens to `cache`. Nothing is evaluated.
    fn hidden_states(&self, ids: &Array, cache: &mut Cache, rows: i32) -> Result<Array>;

    /// The token `id`, int32 `[1]`, that follows those in `cache`, straight to its float32 logits
    /// `[vocab]`, in one operation; `None`, and nothing done, where there is no such operation.
    fn next_logits(&self, id: &Array, cache: &mut Cache) -> Result<Option<Array>>;

    /// Hidden states `[rows, hidden]` through the head: logits `[rows, vocab]`.
    fn logits(&self, hidden: &Array) -> Result<Array>;
}

/// Called after each part of a model is made, with the arrays of that part.
pub(crate) type OnPart<'a> = dyn FnMut(&[&Array]) -> Result<()> + 'a;

/// Makes the decoder of the configuration's family.
pub(crate) fn load(
    config: &Config,
    parts: &Parts<'_>,
    on_part: &mut OnPart<'_>,
) -> Result<Box<dyn Decoder>> {
    Ok(match config.family {
        Family::Qwen3 => Box::new(qwen3::Qwen3::load(config, parts, on_part)?),
        Family::Gemma3 => Box::new(gemma3::Gemma3::load(config, parts, on_part)?),
    })
}
