//! A generation under way: a prompt in, pieces of text out, a step at a time.
//!
//! The device should never wait for the host. So step n+1 is submitted, with the token of step n
//! still unknown, before that token is read; an end-of-sequence token costs one wasted step, every
//! other token hides the host's work behind the device's. The prompt goes in by chunks, so that its
//! activations do not all live at once, others get their turns between them, and only its last position's
//! logits are computed. Chunks end at fixed multiples from the first token on, so that what a prompt gives
//! does not depend on who else is there.
//!
//! Whatever breaks a generation off, what it had is not lost: it travels in the error.

use std::time::{Duration, Instant};

use crate::language_model::{LanguageModel, SequenceId};
use crate::memory::MemoryWatch;
use crate::metrics::{Counts, FinishReason, Generation, Metrics, Piece, Times};
use crate::request::Request;
use crate::text::{TextBuilder, Vocabulary};
use crate::{Error, Result, TokenLogprobs};

/// Tokens of an answer that are run again at a time, by one that was put aside: as many steps.
pub(crate) const REPLAY: usize = 8;

/// The buffer cache is given back each time this many tokens were generated.
const TIDY_EVERY: usize = 256;

/// A generation under way on a model whose tokens are `T`.
pub(crate) struct Run<T> {
    request: Request,
    state: State<T>,
    /// Once it has begun.
    sequence: Option<SequenceId>,
    text: TextBuilder,
    memory: MemoryWatch,
    queued: Duration,
    started: Instant,
    times: Times,
    /// Tokens of the prompt that were in the caches already.
    reused: usize,
    /// Whether some may still be on their way there.
    fetches: bool,
    /// Tokens that were read.
    steps: usize,
    /// How often its caches were given up for others.
    put_aside: usize,
    /// Of the end-of-sequence token.
    end_logprobs: Option<TokenLogprobs>,
    /// Once it is over.
    prompt_logprobs: Vec<TokenLogprobs>,
}

/// How far a generation is.
enum State<T> {
    /// So many tokens of the prompt are in the caches.
    Prompt(usize),
    /// This token was submitted.
    Token(T),
    /// The same, and of the tokens before it so many are in the caches again.
    Again(usize, T),
    /// Nothing is under way.
    Over,
}

impl<T> Run<T> {
    /// Starts its clock; it waited for `queued`.
    pub(crate) fn new(
        request: Request,
        vocabulary: Option<&dyn Vocabulary>,
        queued: Duration,
    ) -> Self {
        Self {
            text: TextBuilder::new(vocabulary, &request.stop),
            request,
            state: State::Over,
            sequence: None,
            memory: MemoryWatch::default(),
            queued,
            started: Instant::now(),
            times: Times::default(),
            reused: 0,
            fetches: false,
            steps: 0,
            put_aside: 0,
            end_logprobs: None,
            prompt_logprobs: Vec::new(),
        }
    }

    /// Takes up the work; a reason if there is none.
    pub(crate) fn begin<M>(&mut self, model: &mut M) -> Result<Option<FinishReason>>
    where
        M: LanguageModel<Token = T>,
    {
        if self.request.max_tokens == 0 {
            return Ok(Some(self.request.at_max));
        }
        let (sequence, reused) = model.begin(&self.request)?;
        self.sequence = Some(sequence);
        self.reused = reused;
        self.fetches = true;
        self.state = State::Prompt(reused);
        Ok(None)
    }

    /// Takes up the work where another sequence is, which has read the same prompt and drawn its first token.
    pub(crate) fn begin_as<M>(&mut self, model: &mut M, other: SequenceId) -> Result<()>
    where
        M: LanguageModel<Token = T>,
    {
        let (sequence, token) = model.copy(other, &self.request)?;
        self.sequence = Some(sequence);
        self.reused = self.request.prompt.len();
        self.state = State::Token(token);
        Ok(())
    }

    pub(crate) fn sequence(&self) -> Option<SequenceId> {
        self.sequence
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Tokens of the answer that were read.
    pub(crate) fn generated(&self) -> usize {
        self.text.token_ids.len()
    }

    /// Gives up the caches: [`Run::read_prompt`] fills new ones with what they held. The token under way stays.
    pub(crate) fn put_aside<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        if let Some(sequence) = self.sequence {
            model.put_aside(sequence);
            self.put_aside += 1;
            self.reused = 0;
            self.fetches = false;
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                State::Token(token) | State::Again(_, token) => State::Again(0, token),
                State::Prompt(_) => State::Prompt(0),
                State::Over => State::Over,
            };
        }
    }

    /// Goes on, with [`Run::read_prompt`], after it was put aside.
    pub(crate) fn resume<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        if let Some(sequence) = self.sequence {
            model.resume(sequence);
        }
    }

    /// Whether some of the prompt is on its way from disk: then it is not read yet. To be asked in front of
    /// [`Run::read_prompt`].
    pub(crate) fn fetches<M>(&mut self, model: &mut M) -> Result<bool>
    where
        M: LanguageModel<Token = T>,
    {
        if let (true, Some(sequence)) = (self.fetches, self.sequence) {
            let Some(read) = model.fetched(sequence)? else {
                return Ok(true);
            };
            self.fetches = false;
            self.reused = read;
            self.state = State::Prompt(read);
        }
        Ok(false)
    }

    /// Whether the next thing to do is [`Run::read_prompt`], and this is of an answer, whose tokens are steps.
    pub(crate) fn replays(&self) -> bool {
        matches!(self.state, State::Again(done, _) if done >= self.request.prompt.len())
    }

    /// Whether the next thing to do is [`Run::read_prompt`].
    pub(crate) fn has_prompt(&self) -> bool {
        matches!(self.state, State::Prompt(_) | State::Again(..))
    }

    /// Tokens that it would run.
    pub(crate) fn next_chunk(&self) -> usize {
        let prompt = self.request.prompt.len();
        match self.state {
            State::Prompt(done) | State::Again(done, _) if done < prompt => {
                self.chunk_end(done).min(prompt) - done
            }
            State::Again(done, _) => REPLAY.min(prompt + self.generated() - done),
            _ => 0,
        }
    }

    /// Where the chunk ends that has token `at` in it.
    fn chunk_end(&self, at: usize) -> usize {
        let chunk = self.request.prefill_chunk.max(1);
        (at / chunk + 1).saturating_mul(chunk)
    }

    /// Runs one chunk of the prompt, or of what the caches held, or of either as much as `more` allows.
    pub(crate) fn read_prompt<M>(
        &mut self,
        model: &mut M,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<()>
    where
        M: LanguageModel<Token = T>,
    {
        if matches!(self.state, State::Again(..)) {
            return self.read_again(model, more);
        }
        let (State::Prompt(done), Some(sequence)) = (&self.state, self.sequence) else {
            return Ok(());
        };
        let done = *done;
        let end = self.chunk_end(done);
        if end >= self.request.prompt.len() {
            if let Some(token) = model.first(sequence, &self.request.prompt[done..], more)? {
                self.state = State::Token(token);
            }
            return Ok(());
        }
        if !model.prefill(sequence, &self.request.prompt[done..end], more)? {
            return Ok(());
        }
        self.state = State::Prompt(end);
        model.release_buffers()
    }

    /// Runs a chunk of what the caches held before they were given up: the prompt by the same chunks, the answer
    /// by single steps, so that they hold the same again.
    fn read_again<M>(&mut self, model: &mut M, more: &mut dyn FnMut() -> bool) -> Result<()>
    where
        M: LanguageModel<Token = T>,
    {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (State::Again(done, token), Some(sequence)) = (state, self.sequence) else {
            return Ok(());
        };
        let prompt = &self.request.prompt;
        let end = if done < prompt.len() {
            let end = self.chunk_end(done).min(prompt.len());
            let chunk = &prompt[done..end];
            // A last token by itself was a step, whose logits were wanted.
            match chunk {
                [_] if end == prompt.len() => model.replay(sequence, chunk)?,
                _ => {
                    if !model.prefill(sequence, chunk, more)? {
                        self.state = State::Again(done, token);
                        return Ok(());
                    }
                }
            }
            end
        } else {
            let answer = &self.text.token_ids[done - prompt.len()..];
            let some = &answer[..answer.len().min(REPLAY)];
            model.replay(sequence, some)?;
            done + some.len()
        };
        self.state = match end < prompt.len() + self.generated() {
            true => State::Again(end, token),
            false => State::Token(token),
        };
        model.release_buffers()
    }

    /// Whether a token is under way, the next thing to do being [`Run::take`].
    pub(crate) fn has_token(&self) -> bool {
        matches!(self.state, State::Token(_))
    }

    /// What the step after the token under way is made of; `None` if that token is the last one.
    pub(crate) fn next_step(&self) -> Option<(SequenceId, &T)> {
        let is_last = self.text.token_ids.len() + 1 >= self.request.max_tokens;
        match (&self.state, self.sequence) {
            (State::Token(token), Some(sequence)) if !is_last => Some((sequence, token)),
            _ => None,
        }
    }

    /// Waits for the token under way and hands out what it makes. `next` is the one behind it, if a step was
    /// made; its failure waits until this token has been handed out. A reason if this was the end.
    pub(crate) fn take<M>(
        &mut self,
        model: &mut M,
        next: Option<Result<T>>,
        emit: &mut dyn FnMut(Piece),
    ) -> Result<Option<FinishReason>>
    where
        M: LanguageModel<Token = T>,
    {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (State::Token(token), Some(sequence)) = (state, self.sequence) else {
            return Ok(None);
        };
        let token = model.read(sequence, token)?;
        let ends = token.ends;
        self.note_time();
        if self.request.eos.contains(&token.id) {
            self.end_logprobs = token.logprobs;
            return Ok(Some(FinishReason::Stop));
        }
        let (piece, stopped) = self.text.push(token)?;
        if let Some(piece) = piece {
            emit(piece);
        }
        if stopped {
            return Ok(Some(FinishReason::StopText));
        }
        if ends {
            return Ok(Some(FinishReason::Stop));
        }
        let Some(next) = next else {
            return Ok(Some(self.request.at_max));
        };
        self.state = State::Token(next?);
        if self.text.token_ids.len().is_multiple_of(TIDY_EVERY) {
            self.memory.tidy(model)?;
        }
        Ok(None)
    }

    /// Ends it, for a reason or with an error, and says what came of it.
    pub(crate) fn finish<M>(
        mut self,
        model: &mut M,
        outcome: Result<FinishReason>,
        emit: &mut dyn FnMut(Piece),
    ) -> Result<Generation>
    where
        M: LanguageModel<Token = T>,
    {
        // What is under way may use the caches.
        self.state = State::Over;
        let outcome = outcome.and_then(|reason| self.last_piece(reason, emit));
        if outcome.is_err() {
            // A device that ran out of memory has it back for the next request. That this can fail too
            // is no news: the first failure is the one to tell.
            let _ = model.drop_caches(self.sequence);
        }
        if self.request.prompt_logprobs.is_some()
            && let Some(sequence) = self.sequence
            && outcome.is_ok()
        {
            self.prompt_logprobs = model.prompt_logprobs(sequence);
        }
        let tidied = self.memory.finish(model, self.sequence);
        if let Some(sequence) = self.sequence {
            model.end(sequence);
        }
        let (outcome, peak) = match (outcome, tidied) {
            (Ok(_), Err(error)) => (Err(error), 0),
            (outcome, tidied) => (outcome, tidied.map_or(0, |held| held.peak)),
        };
        match outcome {
            Ok(FinishReason::Cancelled) => Err(Error::Cancelled {
                partial: self.end(FinishReason::Cancelled, peak).into(),
            }),
            Ok(reason) => Ok(self.end(reason, peak)),
            Err(source) => {
                let partial = self.end(FinishReason::Failed, peak).into();
                Err(Error::Interrupted {
                    partial,
                    source: source.into(),
                })
            }
        }
    }

    fn note_time(&mut self) {
        let now = self.started.elapsed();
        self.times.first.get_or_insert(now);
        self.times.last = now;
        self.steps += 1;
    }

    /// Hands out what was kept back; after a stop text nothing of it may follow, and it may itself
    /// complete one, which then is what ended the text.
    fn last_piece(
        &mut self,
        reason: FinishReason,
        emit: &mut dyn FnMut(Piece),
    ) -> Result<FinishReason> {
        if reason == FinishReason::StopText {
            return Ok(reason);
        }
        let (piece, stopped) = self.text.finish()?;
        if let Some(piece) = piece {
            emit(piece);
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
            prompt: self.request.prompt.len(),
            reused: self.reused,
            generated: token_ids.len(),
            steps: self.steps,
        };
        let metrics = Metrics {
            peak_memory_bytes,
            queue_time: self.queued,
            put_aside: self.put_aside,
            ..Metrics::new(counts, &self.times)
        };
        let text = std::mem::take(&mut self.text.text);
        Generation {
            text,
            token_ids,
            logprobs: std::mem::take(&mut self.text.logprobs),
            end_logprobs: self.end_logprobs.take(),
            prompt_logprobs: std::mem::take(&mut self.prompt_logprobs),
            finish_reason,
            metrics,
        }
    }
}

#[cfg(test)]
mod tests;
