//! Drawing by MLX's operations, where the logits are on a GPU.
//!
//! The filters are mlx-lm's (top-p, then min-p, then top-k, on the probabilities before the
//! temperature), computed another way: where a filter needs an order, the candidates are sorted (or
//! partitioned) once, everything after works on the sorted candidates, and the drawn position is
//! mapped back to its token. That keeps top-k's work small and needs no inverse permutation. All
//! of it is in float32: probabilities of a large vocabulary do not add up in bfloat16.

use kernels::graph::{self, Drawn};
use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, ops};

use super::Sampling;
use crate::Result;

/// Whether these operations are all that is asked for.
pub(super) fn serves(sampling: &Sampling) -> bool {
    !sampling.needs_chain()
}

/// A [`Sampling`] under way: its random key and the tokens it looks back at.
pub(super) struct Draws {
    sampling: Sampling,
    key: Option<Key>,
    /// The last tokens, int32 `[n]`, for the repetition penalty.
    recent: Option<Array>,
}

impl Draws {
    /// `prompt` is where the repetition penalty begins to look.
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Result<Self> {
        let key = if sampling.is_greedy() {
            None
        } else {
            Some(Key::new(sampling.seed)?)
        };
        let recent = match &sampling.repetition {
            Some(repetition) => {
                let tail = &prompt[prompt.len().saturating_sub(repetition.context)..];
                let ids: Vec<i32> = tail.iter().map(|&id| id as i32).collect();
                Some(Array::from_slice(&ids, &[ids.len() as i32])?)
            }
            None => None,
        };
        Ok(Self {
            sampling: sampling.clone(),
            key,
            recent,
        })
    }

    /// Draws from `logits` `[V]`; nothing is evaluated.
    pub(super) fn draw(&mut self, logits: &Array) -> Result<Drawn> {
        let logits = match (&self.recent, &self.sampling.repetition) {
            (Some(recent), Some(repetition)) => penalize(logits, recent, repetition.penalty)?,
            _ => logits.clone(),
        };
        let token = match self.key.take() {
            None => graph::argmax(&logits)?,
            Some(key) => {
                let (now, later) = key.split()?;
                self.key = Some(later);
                let logits = logits.cast(Dtype::Float32)?;
                let drawn = draw_at_random(&logits, &self.sampling, &now)?;
                Drawn::new(&logits, drawn.reshape(&[1])?.cast(Dtype::Int32)?)?
            }
        };
        self.remember(&token.id)?;
        Ok(token)
    }

    fn remember(&mut self, token: &Array) -> Result<()> {
        if let (Some(recent), Some(repetition)) = (&mut self.recent, &self.sampling.repetition) {
            let all = ops::concatenate(&[recent, token], 0)?;
            let count = all.dim(0);
            let first = count.saturating_sub(i32::try_from(repetition.context).unwrap_or(i32::MAX));
            *recent = if first > 0 {
                all.slice(&[first], &[count])?
            } else {
                all
            };
        }
        Ok(())
    }
}

/// Divides the positive logits of the `recent` tokens by `penalty` and multiplies the negative.
pub(super) fn penalize(logits: &Array, recent: &Array, penalty: f32) -> Result<Array> {
    let dtype = logits.dtype();
    let penalty = Array::scalar_of(f64::from(penalty), dtype)?;
    let picked = ops::take(logits, recent, 0)?;
    let negative = ops::less(&picked, &Array::scalar_of(0.0, dtype)?)?;
    let scaled = ops::where_(
        &negative,
        &ops::mul(&picked, &penalty)?,
        &ops::div(&picked, &penalty)?,
    )?;
    Ok(ops::put_along_axis(logits, recent, &scaled, 0)?)
}

/// Filters, divides by the temperature and draws. `logits` is float32 `[V]`.
fn draw_at_random(logits: &Array, sampling: &Sampling, key: &Key) -> Result<Array> {
    let (mut candidates, tokens) = candidates(logits, sampling)?;
    if let Some(min_p) = sampling.min_p {
        candidates = apply_min_p(&candidates, min_p)?;
    }
    let temperature = Array::scalar(sampling.temperature)?;
    let drawn = random::categorical(key, &ops::div(&candidates, &temperature)?, -1)?;
    match tokens {
        Some(tokens) => Ok(ops::take(&tokens, &drawn, 0)?),
        None => Ok(drawn),
    }
}

/// The logits that top-p and top-k leave, the others gone or at -inf, and the tokens they belong
/// to where these are no longer in the vocabulary's order.
fn candidates(logits: &Array, sampling: &Sampling) -> Result<(Array, Option<Array>)> {
    let vocabulary = logits.dim(0);
    let top_k = sampling
        .top_k
        .and_then(|k| i32::try_from(k).ok())
        .filter(|&k| k < vocabulary);
    let order = match (sampling.top_p, top_k) {
        (None, None) => return Ok((logits.clone(), None)),
        // Only a partition: the largest k, in any order, are at the end.
        (None, Some(k)) => ops::argpartition(logits, vocabulary - k, -1)?,
        (Some(_), _) => ops::argsort(logits, -1)?,
    };
    let mut tokens = order;
    let mut ascending = ops::take(logits, &tokens, 0)?;
    if let Some(top_p) = sampling.top_p {
        ascending = apply_top_p(&ascending, top_p)?;
    }
    if let Some(k) = top_k {
        tokens = tokens.slice(&[vocabulary - k], &[vocabulary])?;
        ascending = ascending.slice(&[vocabulary - k], &[vocabulary])?;
    }
    Ok((ascending, Some(tokens)))
}

/// Keeps the fewest largest of the `ascending` logits whose probabilities reach `top_p`.
fn apply_top_p(ascending: &Array, top_p: f32) -> Result<Array> {
    let probabilities = ops::softmax(ascending, -1, true)?;
    let up_to_here = ops::cumsum(&probabilities, -1, false, true)?;
    let kept = ops::greater(&up_to_here, &Array::scalar(1.0 - top_p)?)?;
    minus_infinity_unless(&kept, ascending)
}

/// Keeps what is at least `min_p` times as probable as the most probable.
fn apply_min_p(logits: &Array, min_p: f32) -> Result<Array> {
    let best = ops::max(logits, &[-1], true)?;
    let least = ops::add(&best, &Array::scalar(min_p.ln())?)?;
    let removed = ops::less(logits, &least)?;
    Ok(ops::where_(
        &removed,
        &Array::scalar(f32::NEG_INFINITY)?,
        logits,
    )?)
}

fn minus_infinity_unless(kept: &Array, logits: &Array) -> Result<Array> {
    Ok(ops::where_(
        kept,
        logits,
        &Array::scalar(f32::NEG_INFINITY)?,
    )?)
}
