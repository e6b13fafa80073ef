//! The generate loop: a prompt in, pieces of text out.
//!
//! The device should never wait for the host. So step n+1 is submitted, with the token of step n
//! still unknown, before that token is read; an end-of-sequence token costs one wasted step, every
//! other token hides the host's work behind the device's. The prompt goes in by chunks, so that its
//! activations do not all live at once, and only its last position's logits are computed.
//!
//! Whatever breaks a generation off, what it had is not lost: it travels in the error.

use std::time::Instant;

use crate::language_model::LanguageModel;
use crate::memory::MemoryWatch;
use crate::metrics::{Counts, FinishReason, Generation, Metrics, Piece, Times};
use crate::plan::Plan;
use crate::text::{TextBuilder, Vocabulary};
use crate::{Error, Result};

/// The buffer cache is given back each time this many tokens were generated.
const TIDY_EVERY: usize = 256;

/// What surrounds a generation.
pub(crate) struct Surroundings<'a> {
    /// Absent in a directory without a tokenizer.
    pub(crate) vocabulary: Option<&'a dyn Vocabulary>,
    /// Looked at before each chunk of the prompt and before each token.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
    /// Takes each piece as soon as it is there.
    pub(crate) emit: &'a mut dyn FnMut(Piece),
}

/// Runs `plan` to its end.
pub(crate) fn generate<M: LanguageModel>(
    model: &mut M,
    plan: &Plan,
    surroundings: Surroundings<'_>,
) -> Result<Generation> {
    let mut run = Run {
        model,
        plan,
        cancelled: surroundings.cancelled,
        emit: surroundings.emit,
        text: TextBuilder::new(surroundings.vocabulary, &plan.stop),
        memory: MemoryWatch::default(),
        started: Instant::now(),
        times: Times::default(),
        reused: 0,
        steps: 0,
    };
    let outcome = run.all_tokens().and_then(|reason| run.last_piece(reason));
    if outcome.is_err() {
        // A device that ran out of memory has it back for the next request. That this can fail too
        // is no news: the first failure is the one to tell.
        let _ = run.model.drop_caches();
    }
    let tidied = run.memory.finish(run.model);
    let (outcome, peak) = match (outcome, tidied) {
        (Ok(_), Err(error)) => (Err(error), 0),
        (outcome, tidied) => (outcome, tidied.map_or(0, |held| held.peak)),
    };
    match outcome {
        Ok(FinishReason::Cancelled) => Err(Error::Cancelled {
            partial: run.end(FinishReason::Cancelled, peak).into(),
        }),
        Ok(reason) => Ok(run.end(reason, peak)),
        Err(source) => {
            let partial = run.end(FinishReason::Failed, peak).into();
            Err(Error::Interrupted {
                partial,
                source: source.into(),
            })
        }
    }
}

struct Run<'a, M> {
    model: &'a mut M,
    plan: &'a Plan,
    cancelled: &'a dyn Fn() -> bool,
    emit: &'a mut dyn FnMut(Piece),
    text: TextBuilder,
    memory: MemoryWatch,
    started: Instant,
    times: Times,
    /// Tokens of the prompt that were in the caches already.
    reused: usize,
    /// Tokens that were read.
    steps: usize,
}

impl<M: LanguageModel> Run<'_, M> {
    fn all_tokens(&mut self) -> Result<FinishReason> {
        if self.plan.max_tokens == 0 {
            return Ok(self.plan.at_max);
        }
        self.reused = self.model.begin(self.plan)?;
        let Some(mut token) = self.prefill()? else {
            return Ok(FinishReason::Cancelled);
        };
        loop {
            if (self.cancelled)() {
                return Ok(FinishReason::Cancelled);
            }
            let is_last = self.text.token_ids.len() + 1 >= self.plan.max_tokens;
            // Its failure waits until the token that is on its way has been handed out.
            let next = (!is_last).then(|| self.model.next(&token));
            let id = self.model.read(token)?;
            self.note_time();
            if self.plan.eos.contains(&id) {
                return Ok(FinishReason::Stop);
            }
            let (piece, stopped) = self.text.push(id)?;
            if let Some(piece) = piece {
                (self.emit)(piece);
            }
            if stopped {
                return Ok(FinishReason::StopText);
            }
            let Some(next) = next else {
                return Ok(self.plan.at_max);
            };
            token = next?;
            if self.text.token_ids.len().is_multiple_of(TIDY_EVERY) {
                self.memory.tidy(self.model)?;
            }
        }
    }

    /// Runs what is new of the prompt; the first token, or `None` if it was cancelled on the way.
    fn prefill(&mut self) -> Result<Option<M::Token>> {
        let mut rest = &self.plan.prompt[self.reused..];
        while rest.len() > self.plan.prefill_chunk {
            if (self.cancelled)() {
                return Ok(None);
            }
            let (chunk, after) = rest.split_at(self.plan.prefill_chunk);
            self.model.prefill(chunk)?;
            self.model.release_buffers()?;
            rest = after;
        }
        if (self.cancelled)() {
            return Ok(None);
        }
        self.model.first(rest).map(Some)
    }

    fn note_time(&mut self) {
        let now = self.started.elapsed();
        self.times.first.get_or_insert(now);
        self.times.last = now;
        self.steps += 1;
    }

    /// Hands out what was kept back; after a stop text nothing of it may follow, and it may itself
    /// complete one, which then is what ended the text.
    fn last_piece(&mut self, reason: FinishReason) -> Result<FinishReason> {
        if reason == FinishReason::StopText {
            return Ok(reason);
        }
        let (piece, stopped) = self.text.finish()?;
        if let Some(piece) = piece {
            (self.emit)(piece);
        }
        Ok(match (stopped, reason) {
            (true, FinishReason::Stop | FinishReason::Length | FinishReason::Context) => {
                FinishReason::StopText
            }
            _ => reason,
        })
    }

    fn end(&mut self, finish_reason: FinishReason, peak_memory_bytes: u64) -> Generation {
        self.times.total = self.started.elapsed();
        let token_ids = std::mem::take(&mut self.text.token_ids);
        let counts = Counts {
            prompt: self.plan.prompt.len(),
            reused: self.reused,
            generated: token_ids.len(),
            steps: self.steps,
        };
        let metrics = Metrics {
            peak_memory_bytes,
            ..Metrics::new(counts, &self.times)
        };
        let text = std::mem::take(&mut self.text.text);
        Generation {
            text,
            token_ids,
            finish_reason,
            metrics,
        }
    }
}

#[cfg(test)]
mod tests;
