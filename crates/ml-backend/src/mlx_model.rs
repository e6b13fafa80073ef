//! A model of [`models`] behind the trait of generating: caches, samplers and MLX's memory figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mlx_core::{Array, DeviceKind, Dtype, cuda, device, memory};
use models::cache::{Cache, GROWTH};
use models::{Logits, Model, Pass, Passed};

use crate::account::Share;
use crate::embedding::{Mode, Pool};
use crate::language_model::{LanguageModel, MemoryUse, Reading, Sampled, SequenceId};
use crate::memory::{Kept, Wired};
use crate::prefix::{Asked, Cuts, Entry, Loading, Prefixes, alike};
use crate::request::Request;
use crate::sample::{self, Sampler};
use crate::scores::Scores;
use crate::token::Token;
use crate::{Error, Result, TokenLogprobs};

/// Positions whose logits are computed at once for [`LanguageModel::logits`]: a float32 row of a
/// large vocabulary is a megabyte.
const LOGITS_CHUNK: usize = 256;

/// Generated tokens that caches have room for from the start. Few answers are longer, and a limit
/// may be far larger than what is generated.
const EXPECTED_TOKENS: usize = 512;

/// Tokens for which the caches of one that was put aside have room when it goes on.
const RESUMED_TOKENS: usize = 256;

/// Bytes of a block of scratch memory that the kernels keep between requests: enough for decode steps and
/// for prompts of some dozen tokens, whose time it would be to map them again.
const SCRATCH_BETWEEN_REQUESTS: usize = 4 << 20;

/// A model and the sequences that it holds.
pub(crate) struct MlxModel {
    model: Model,
    /// By number; a place that is free is given out again.
    sequences: Vec<Option<Sequence>>,
    /// What the last sequence left, for a prompt that begins like it.
    last: Option<Held>,
    /// What prompts made.
    prefixes: Prefixes,
    kept: Kept,
    /// Bytes of the weights.
    weights: u64,
    /// Bytes that weights and caches should stay within.
    limit: u64,
    share: Share,
    /// As long as the model is there.
    _wired: Option<Wired>,
}

/// Caches and what is in them.
struct Held {
    cache: Cache,
    /// The prompt and what was read since: the caches hold the first of these tokens.
    tokens: Vec<u32>,
    /// Of these, the first that are as any prompt would have made them.
    exact: usize,
}

/// A generation under way.
struct Sequence {
    held: Held,
    sampler: Sampler,
    /// Of its prompt, where that has paused between two layers.
    pass: Option<Pass>,
    /// Where the prompt's probabilities are asked for.
    scores: Option<Scores>,
    /// Of the prompt's last token, `[V]`, as long as copies may be made of it.
    logits: Option<Array>,
    has_copies: bool,
    /// How its prompt is cut, and its length.
    cuts: Cuts,
    prompt: usize,
    /// Tokens of its prompt that others have read.
    shared: usize,
    /// Of its prompt, what is on its way from disk.
    loading: Option<Loading>,
    /// Tokens of its prompt that were run, and how long that took.
    ran: (usize, Duration),
    /// When the end of its prompt was submitted, as long as nobody has waited for it, and its tokens.
    submitted: Option<(usize, Instant)>,
}

impl Sequence {
    /// Runs `ids`, or what is left of them, for as long as `more` says: the logits that are wanted, or `None`
    /// where it has paused.
    fn run(
        &mut self,
        model: &Model,
        ids: &[u32],
        want: Logits,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Option<Array>>> {
        let from = self.held.cache.offset().unsigned_abs() as usize;
        let made = self.run_pass(model, ids, want, more)?;
        if made.is_some() {
            let exact = &mut self.held.exact;
            *exact = self.cuts.exact(*exact, from, from + ids.len());
        }
        Ok(made)
    }

    fn run_pass(
        &mut self,
        model: &Model,
        ids: &[u32],
        want: Logits,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Option<Array>>> {
        let cache = &mut self.held.cache;
        // Of one that was put aside the probabilities are known, and nothing follows the last token.
        let is_last = ids.len() == 1 && want == Logits::Last;
        let scores = self.scores.as_mut();
        let scores = scores.filter(|scores| scores.wants_more() && !is_last);
        let pass = match self.pass.take() {
            Some(pass) => pass,
            None if scores.is_some() => model.begin(&ids_array(ids)?, cache, Logits::Hidden)?,
            None => model.begin(&ids_array(ids)?, cache, want)?,
        };
        match model.go_on(pass, cache, more)? {
            Passed::Whole(made) => match (scores, made) {
                (Some(scores), Some(hidden)) => {
                    let last = scores.add(model, &hidden)?;
                    Ok(Some((want == Logits::Last).then_some(last)))
                }
                (_, logits) => Ok(Some(logits)),
            },
            Passed::Part(pass) => {
                self.pass = Some(pass);
                Ok(None)
            }
        }
    }

    /// So many tokens of its prompt have run since then.
    fn has_run(&mut self, tokens: usize, began: Instant) {
        self.ran.0 += tokens;
        self.ran.1 += began.elapsed();
    }
}

impl Drop for MlxModel {
    fn drop(&mut self) {
        self.prefixes.finish(&self.model);
    }
}

impl Held {
    /// Bytes of the caches.
    fn bytes(&self) -> u64 {
        self.cache.all_bytes() as u64
    }

    /// Makes the caches hold a beginning of `prompt` and nothing else, without running any of it: the
    /// number of tokens. The last one is to be run, for its logits. A recurrent state goes back to a checkpoint.
    /// None, where a sliding window cannot go back so far: in pages it goes back by 256 tokens at the least,
    /// elsewhere not at all once it has come round.
    fn keep_prefix_of(&mut self, prompt: &[u32]) -> usize {
        let held = self.cache.offset().unsigned_abs() as usize;
        let Some(held) = self.tokens.get(..held) else {
            return 0;
        };
        let same = alike(held, prompt).min(prompt.len().saturating_sub(1));
        // Fewer than `held`, which came from an `i32`.
        let reached = match self.cache.rewind(same as i32) {
            reached if reached <= same as i32 => reached.unsigned_abs() as usize,
            _ => 0,
        };
        self.exact = self.exact.min(reached);
        reached
    }
}

impl MlxModel {
    /// `share` is what the weights take, `limit` what they and caches should stay within.
    pub(crate) fn new(
        model: Model,
        kept: Kept,
        share: Share,
        wired: Option<Wired>,
        limit: u64,
        prefixes: Prefixes,
    ) -> Self {
        Self {
            prefixes,
            kept,
            weights: share.bytes(),
            limit,
            share,
            _wired: wired,
            model,
            sequences: Vec::new(),
            last: None,
        }
    }

    /// # Panics
    /// If there is none of this number, which is a defect.
    fn sequence(&mut self, id: SequenceId) -> &mut Sequence {
        let sequence = self.sequences.get_mut(id.0).and_then(Option::as_mut);
        sequence.expect("a sequence has begun and not ended")
    }

    /// Bytes of the caches of a request that has generated so many tokens.
    fn cache_bytes(&self, request: &Request, generated: usize) -> u64 {
        let tokens = |generated: usize| {
            let answer = generated.min(request.max_tokens);
            request.prompt.len().saturating_add(answer) as u64
        };
        if let Some(states) = self.model.states() {
            return states.bytes_for(tokens(generated));
        }
        // Elsewhere there is room for what is expected from the start.
        let tokens = tokens(generated.max(EXPECTED_TOKENS));
        let room = tokens.checked_next_multiple_of(GROWTH as u64);
        self.model.info().cache_bytes(room.unwrap_or(tokens))
    }

    /// Submits the forward pass of `ids` and the drawing of the token after them.
    fn submit(&mut self, id: SequenceId, ids: &Array) -> Result<Token> {
        let mut sequence = self.take(id);
        let made = self.submit_for(&mut sequence, ids);
        self.put_back(id, sequence);
        made
    }

    fn submit_for(&self, sequence: &mut Sequence, ids: &Array) -> Result<Token> {
        let logits = self
            .model
            .forward(ids, &mut sequence.held.cache, Logits::Last)?;
        let logits = logits.expect("a pass that was asked for logits gives them");
        Self::draw(sequence, &logits)
    }

    /// Draws a token that was left for the host.
    fn settle(&mut self, id: SequenceId, token: &Token) {
        let sampler = &mut self.sequence(id).sampler;
        token.settle(|logits| sampler.draw_now(logits));
    }

    /// Submits the drawing of a token from `logits`.
    fn draw(sequence: &mut Sequence, logits: &Array) -> Result<Token> {
        let token = sequence.sampler.draw(logits)?;
        mlx_core::async_eval(&token.arrays())?;
        Ok(token)
    }

    fn replay_for(&self, sequence: &mut Sequence, ids: &[u32]) -> Result<()> {
        let cache = &mut sequence.held.cache;
        for &id in ids {
            // The logits are not wanted, but what computes them may not be what fills caches without them.
            let logits = self
                .model
                .forward(&ids_array(&[id])?, cache, Logits::Last)?;
            let logits = logits.expect("a pass that was asked for logits gives them");
            mlx_core::async_eval(&[&logits])?;
        }
        Ok(cache.eval()?)
    }

    /// Submits a step of several sequences, `ids` being their tokens. A failure of the pass leaves them as they
    /// were; one behind it is each one's own.
    fn submit_each(&self, sequences: &mut [Sequence], ids: &Array) -> Result<Vec<Result<Token>>> {
        let caches = sequences.iter_mut().map(|s| &mut s.held.cache);
        let logits = self
            .model
            .forward_each(ids, &mut caches.collect::<Vec<_>>())?;
        let samplers = sequences.iter_mut().map(|s| &mut s.sampler).collect();
        let mut tokens = sample::draw_each(samplers, &logits);
        let drawn = tokens.iter().flatten();
        let submitted: Vec<&Array> = drawn.flat_map(Token::arrays).collect();
        if let Err(error) = mlx_core::async_eval(&submitted) {
            // Each has a token more in its caches by now, and nobody knows which of them are right.
            let message = error.to_string();
            for token in &mut tokens {
                *token = Err(mlx_core::Error::Native(message.clone()).into());
            }
        }
        Ok(tokens)
    }

    /// Bytes of the caches of all sequences, and of those that no sequence has.
    fn held_bytes(&self) -> u64 {
        if let Some(states) = self.model.states() {
            return states.bytes() as u64;
        }
        let sequences = self.sequences.iter().flatten();
        let of_sequences = sequences.map(|sequence| sequence.held.bytes());
        let held = of_sequences.chain(self.last.iter().map(Held::bytes));
        held.sum::<u64>() + self.prefixes.bytes_of_buffers()
    }

    /// Of these, what no sequence has.
    fn kept_bytes(&self) -> u64 {
        let last = self.last.as_ref();
        match self.model.states() {
            Some(_) => {
                let last = last.and_then(|held| held.cache.sequence());
                self.prefixes.bytes_alone(&self.model, last)
            }
            None => last.map_or(0, Held::bytes) + self.prefixes.bytes_of_buffers(),
        }
    }

    /// Bytes that a pass of so many tokens may take.
    fn bytes_to_come(&self, tokens: usize) -> u64 {
        if let Some(states) = self.model.states() {
            return states.bytes_for(tokens as u64);
        }
        // Buffers that grow are there twice for a moment.
        let sequences = self.sequences.iter().flatten();
        let largest = sequences.map(|sequence| sequence.held.bytes()).max();
        largest.unwrap_or(0) + self.model.info().cache_bytes(tokens as u64)
    }

    /// What nobody is using goes before anybody is short of memory, of which `more` bytes are about to be taken.
    fn make_way(&mut self, more: u64) {
        let wanted = self.weights.saturating_add(more);
        while wanted.saturating_add(self.held_bytes()) > self.limit && self.drop_kept() {}
    }

    /// Gives up some of what no sequence has: what the last one left, then what prompts made, longest ago first.
    /// False if there is nothing.
    fn drop_kept(&mut self) -> bool {
        self.last.take().is_some() || self.prefixes.drop_one()
    }

    /// Whether there would be memory for `needed` bytes beside the weights, and for what is kept with that, of which
    /// as much goes as has to.
    fn has_room_beside_kept(&mut self, needed: u64) -> bool {
        let needed = self.weights.saturating_add(needed);
        if needed > self.limit {
            return false;
        }
        if needed.saturating_add(self.held_bytes()) <= self.limit {
            return true;
        }
        loop {
            if needed.saturating_add(self.kept_bytes()) <= self.limit || !self.drop_kept() {
                return true;
            }
        }
    }

    /// Keeps what a prompt has made so far.
    fn keep(&mut self, sequence: &mut Sequence) {
        let held = &mut sequence.held;
        let read = held.cache.offset().unsigned_abs() as usize;
        let tokens = held.tokens.get(..read).filter(|_| read <= sequence.prompt);
        let Some(tokens) = tokens else {
            return;
        };
        let kept = self.prefixes.keep(
            &self.model,
            tokens,
            &mut held.cache,
            sequence.cuts,
            held.exact,
        );
        if let Err(error) = kept {
            tracing::debug!(%error, "a prompt is not kept");
        }
    }

    /// Keeps all that a sequence has left.
    fn keep_buffers(&mut self, sequence: Sequence) {
        let Held {
            cache,
            mut tokens,
            exact,
        } = sequence.held;
        tokens.truncate(cache.offset().unsigned_abs() as usize);
        let entry = Entry::new(cache, sequence.cuts, exact);
        if let Some(entry) = self.prefixes.take_over(&self.model, &tokens, entry) {
            self.last = Some(Held {
                cache: entry.cache,
                tokens,
                exact,
            });
        }
    }

    /// Has what a prompt has made written to disk, if there is one for it.
    fn write(&mut self, id: SequenceId) {
        let mut sequence = self.take(id);
        self.write_of(&mut sequence);
        self.put_back(id, sequence);
    }

    fn write_of(&mut self, sequence: &mut Sequence) {
        let held = &mut sequence.held;
        let (tokens, time) = sequence.ran;
        let cost = time.as_nanos() as f64 / tokens.max(1) as f64;
        let exact = &held.tokens[..held.exact.min(held.tokens.len())];
        let written = self
            .prefixes
            .write(exact, &mut held.cache, sequence.cuts, cost);
        if let Err(error) = written {
            tracing::debug!(%error, "a prompt is not kept on disk");
        }
    }

    /// Gives a sequence a number.
    fn add(&mut self, sequence: Sequence) -> SequenceId {
        let free = self.sequences.iter().position(Option::is_none);
        let number = free.unwrap_or(self.sequences.len());
        match free {
            Some(number) => self.sequences[number] = Some(sequence),
            None => self.sequences.push(Some(sequence)),
        }
        SequenceId(number)
    }

    /// Takes a sequence out, so that the rest of `self` can be used beside it.
    fn take(&mut self, id: SequenceId) -> Sequence {
        let sequence = self.sequences.get_mut(id.0).and_then(Option::take);
        sequence.expect("a sequence has begun and not ended")
    }

    fn put_back(&mut self, id: SequenceId, sequence: Sequence) {
        self.sequences[id.0] = Some(sequence);
    }

    /// See [`LanguageModel::logits`].
    fn all_logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        let count = ids.len().saturating_mul(self.model.info().vocab_size);
        rows.try_reserve_exact(count)
            .map_err(|_| Error::TooManyLogits {
                bytes: 4 * count as u64,
                available: None,
            })?;
        let mut cache = self.model.new_cache();
        for chunk in ids.chunks(LOGITS_CHUNK) {
            let logits = self
                .model
                .forward(&ids_array(chunk)?, &mut cache, Logits::All)?;
            let logits = logits.expect("a pass that was asked for logits gives them");
            rows.extend(logits.cast(Dtype::Float32)?.to_vec::<f32>()?);
        }
        Ok(rows)
    }
}

/// Texts that are read for something else than an answer. They are cut like nothing else, so that what a text gives is
/// its own.
impl MlxModel {
    /// Tokens of a text that are read at once: all of them, where each sees those behind it.
    fn text_chunk(&self) -> usize {
        match self.model.info().bidirectional {
            true => usize::MAX,
            false => LOGITS_CHUNK,
        }
    }

    fn pooled(
        &self,
        ids: &[u32],
        modes: &[Mode],
        skip: usize,
        cache: &mut Cache,
    ) -> Result<Vec<f32>> {
        let mut pool = Pool::new(modes, skip);
        for chunk in ids.chunks(self.text_chunk()) {
            let states = self
                .model
                .forward(&ids_array(chunk)?, cache, Logits::Hidden)?;
            let states = states.expect("a pass that was asked for hidden states gives them");
            let rows = states.cast(Dtype::Float32)?.to_vec::<f32>()?;
            for row in rows.chunks_exact(rows.len() / chunk.len()) {
                pool.add(row);
            }
        }
        Ok(pool.finish())
    }

    /// The same of several texts, as one pass.
    fn pooled_together(
        &self,
        texts: &[&[u32]],
        modes: &[Mode],
        skip: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let mut caches: Vec<Cache> = texts.iter().map(|_| self.model.new_cache()).collect();
        let mut caches: Vec<&mut Cache> = caches.iter_mut().collect();
        let lengths: Vec<i32> = texts.iter().map(|ids| ids.len() as i32).collect();
        let ids = ids_array(&texts.concat())?;
        let states = self.model.hidden_states_of(&ids, &lengths, &mut caches)?;
        let hidden = states.dim(1).unsigned_abs() as usize;
        let rows = states.cast(Dtype::Float32)?.to_vec::<f32>()?;
        let mut rows = rows.chunks_exact(hidden.max(1));
        let pooled = texts.iter().map(|ids| {
            let mut pool = Pool::new(modes, skip);
            rows.by_ref().take(ids.len()).for_each(|row| pool.add(row));
            pool.finish()
        });
        Ok(pooled.collect())
    }

    fn next_logits(&self, ids: &[u32], tokens: &[u32], cache: &mut Cache) -> Result<Vec<f32>> {
        let mut chunks = ids.chunks(LOGITS_CHUNK);
        let last = chunks.next_back().ok_or(Error::EmptyPrompt)?;
        for chunk in chunks {
            self.model
                .forward(&ids_array(chunk)?, cache, Logits::None)?;
            cache.eval()?;
        }
        let logits = self.model.forward(&ids_array(last)?, cache, Logits::Last)?;
        let logits = logits.expect("a pass that was asked for logits gives them");
        let logits = logits.cast(Dtype::Float32)?.to_vec::<f32>()?;
        let wanted = tokens.iter();
        Ok(wanted
            .filter_map(|token| logits.get(*token as usize).copied())
            .collect())
    }
}

impl LanguageModel for MlxModel {
    /// As it was drawn, so is it the next step's input.
    type Token = Token;

    fn begin(&mut self, request: &Request) -> Result<(SequenceId, usize)> {
        let prompt = &request.prompt;
        let cuts = self.prefixes.cuts(request.prefill_chunk);
        // What it does not take up is gone: the memory may be wanted.
        let last = self.last.take().filter(|_| request.reuse_prefix);
        // What is not run has no probabilities.
        let taken = self.weights.saturating_add(self.held_bytes());
        let asked = Asked {
            prompt,
            cuts,
            // In pages what the last one left is apart.
            any: request.reuse_prefix && self.model.states().is_none(),
            room: self.limit.saturating_sub(taken),
        };
        let known = match request.prompt_logprobs {
            None => self.prefixes.find(&asked)?,
            Some(_) => Default::default(),
        };
        let mut reused = known.start.as_ref().map_or(0, |start| start.tokens);
        let mut held = match known.start {
            Some(start) => Held {
                cache: start.cache,
                tokens: Vec::new(),
                exact: start.exact,
            },
            None => Held {
                cache: self.model.new_cache(),
                tokens: Vec::new(),
                exact: 0,
            },
        };
        if let Some(mut last) = last
            && let more @ 1.. = last.keep_prefix_of(prompt)
            && more > reused
        {
            (held, reused) = (last, more);
        }
        let loading = match request.prompt_logprobs {
            None => self.prefixes.fetch(&self.model, prompt, cuts, reused),
            Some(_) => None,
        };
        if loading.is_some() {
            // Its pages are there, and are about to be filled.
            self.make_way(self.bytes_to_come(prompt.len()));
        }
        held.tokens.clone_from(prompt);
        let expected = prompt.len() + request.max_tokens.min(EXPECTED_TOKENS);
        held.cache.expect(i32::try_from(expected).unwrap_or(0));
        if self.sequences.iter().all(Option::is_none) {
            memory::reset_peak()?;
        }
        let sequence = Sequence {
            held,
            sampler: Sampler::new(&request.sampling, prompt)?,
            pass: None,
            scores: request.prompt_logprobs.map(|n| Scores::new(prompt, n)),
            logits: None,
            has_copies: request.has_copies,
            cuts,
            prompt: prompt.len(),
            shared: known.shared,
            loading,
            ran: (0, Duration::ZERO),
            submitted: None,
        };
        Ok((self.add(sequence), reused))
    }

    fn fetched(&mut self, id: SequenceId) -> Result<Option<usize>> {
        let mut sequence = self.take(id);
        let fetched = match sequence.loading.take() {
            None => Ok(true),
            Some(loading) => match self.prefixes.fetched(&self.model, &loading) {
                Ok(None) => {
                    sequence.loading = Some(loading);
                    Ok(false)
                }
                Ok(Some(cache)) => {
                    if let Some(cache) = cache {
                        sequence.held.exact = cache.offset().unsigned_abs() as usize;
                        sequence.held.cache = cache;
                    }
                    Ok(true)
                }
                Err(error) => Err(error),
            },
        };
        let read = sequence.held.cache.offset().unsigned_abs() as usize;
        self.put_back(id, sequence);
        Ok(fetched?.then_some(read))
    }

    fn background(&mut self) -> bool {
        self.prefixes.background(&self.model)
    }

    fn has_room(&mut self, requests: &[(&Request, usize)]) -> bool {
        let each = requests
            .iter()
            .map(|(request, generated)| self.cache_bytes(request, *generated));
        let (caches, largest) = each.fold((0_u64, 0), |(sum, largest), bytes| {
            (sum.saturating_add(bytes), bytes.max(largest))
        });
        if self.model.states().is_some() {
            return self.has_room_beside_kept(caches);
        }
        // One that grows is there twice for a moment, unless it is in pages. (Where several do in one step and there
        // is no room for it, they take the step one by one.)
        self.weights.saturating_add(caches).saturating_add(largest) <= self.limit
    }

    fn put_aside(&mut self, id: SequenceId) {
        let cache = self.model.new_cache();
        let sequence = self.sequence(id);
        (sequence.held.cache, sequence.pass) = (cache, None);
        (sequence.held.exact, sequence.loading) = (0, None);
        sequence.logits = None;
        if let Some(scores) = &mut sequence.scores {
            scores.begin_again();
        }
        self.last = None;
    }

    fn resume(&mut self, id: SequenceId) {
        self.last = None;
        let held = &mut self.sequence(id).held;
        let expected = held.tokens.len() + RESUMED_TOKENS;
        held.cache.expect(i32::try_from(expected).unwrap_or(0));
    }

    fn replay(&mut self, id: SequenceId, ids: &[u32]) -> Result<()> {
        let mut sequence = self.take(id);
        let made = self.replay_for(&mut sequence, ids);
        self.put_back(id, sequence);
        made
    }

    fn prefill(
        &mut self,
        id: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> Result<bool> {
        self.make_way(self.bytes_to_come(ids.len()));
        let mut sequence = self.take(id);
        let began = Instant::now();
        let made = sequence.run(&self.model, ids, Logits::None, more);
        let made = made.and_then(|done| match done {
            Some(_) => {
                sequence.held.cache.eval()?;
                sequence.has_run(ids.len(), began);
                let read = sequence.held.cache.offset().unsigned_abs() as usize;
                let (length, shared) = (sequence.prompt, sequence.shared);
                if self.prefixes.is_due(read, length, sequence.cuts, shared) {
                    self.keep(&mut sequence);
                }
                Ok(true)
            }
            None => Ok(false),
        });
        self.put_back(id, sequence);
        made
    }

    fn first(
        &mut self,
        id: SequenceId,
        ids: &[u32],
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Token>> {
        self.make_way(self.bytes_to_come(ids.len()));
        let mut sequence = self.take(id);
        let made = sequence.run(&self.model, ids, Logits::Last, more);
        let made = made.and_then(|logits| {
            let logits = logits.flatten();
            if logits.is_some() {
                sequence.submitted = Some((ids.len(), Instant::now()));
                if self.prefixes.is_due_behind_prompts() {
                    self.keep(&mut sequence);
                }
            }
            if sequence.has_copies {
                sequence.logits.clone_from(&logits);
            }
            logits
                .map(|logits| Self::draw(&mut sequence, &logits))
                .transpose()
        });
        self.put_back(id, sequence);
        made
    }

    fn can_copy(&self) -> bool {
        true
    }

    fn copy(&mut self, of: SequenceId, request: &Request) -> Result<(SequenceId, Token)> {
        let sampler = Sampler::new(&request.sampling, &request.prompt)?;
        let other = self.sequence(of);
        let logits = other.logits.clone().ok_or(Error::EngineEnded)?;
        let mut sequence = Sequence {
            held: Held {
                cache: other.held.cache.fork()?,
                tokens: request.prompt.clone(),
                exact: other.held.exact,
            },
            sampler,
            pass: None,
            scores: other.scores.clone(),
            logits: None,
            has_copies: false,
            cuts: other.cuts,
            prompt: other.prompt,
            shared: other.shared,
            loading: None,
            ran: (0, Duration::ZERO),
            submitted: None,
        };
        let token = Self::draw(&mut sequence, &logits)?;
        Ok((self.add(sequence), token))
    }

    fn next(&mut self, steps: &[(SequenceId, &Token)]) -> Result<Vec<Result<Token>>> {
        self.make_way(self.bytes_to_come(steps.len()));
        for (id, token) in steps {
            self.settle(*id, token);
            self.sequence(*id).logits = None;
        }
        let tokens: Vec<&Token> = steps.iter().map(|(_, token)| *token).collect();
        let ids = Token::ids(&tokens)?;
        if let [(id, _)] = steps {
            return Ok(vec![self.submit(*id, &ids)]);
        }
        let mut taken = Taken::new(self, steps.iter().map(|(id, _)| *id).collect());
        let Taken {
            model, sequences, ..
        } = &mut taken;
        model.submit_each(sequences, &ids)
    }

    fn read(&mut self, id: SequenceId, token: Token) -> Result<Sampled> {
        self.settle(id, &token);
        let drawn = token.read()?;
        let outcome = self.sequence(id).sampler.outcome();
        if let Some(error) = outcome.failed {
            return Err(error);
        }
        let Some(token) = drawn else {
            let dtype = crate::Dtype::of(self.model.info().dtype);
            return Err(Error::NotNumbers { dtype });
        };
        let sequence = self.sequence(id);
        sequence.held.tokens.push(token);
        if let Some((tokens, began)) = sequence.submitted.take() {
            sequence.has_run(tokens, began);
            self.write(id);
        }
        Ok(Sampled {
            id: token,
            ends: outcome.ends,
            logprobs: outcome.logprobs,
        })
    }

    fn prompt_logprobs(&mut self, id: SequenceId) -> Vec<TokenLogprobs> {
        let scores = self.sequence(id).scores.take();
        scores.map_or_else(Vec::new, Scores::finish)
    }

    fn end(&mut self, id: SequenceId) {
        let mut ended = self.sequences.get_mut(id.0).and_then(Option::take);
        if let Some(sequence) = &mut ended
            && let Some(pass) = sequence.pass.take()
        {
            pass.give_up(&mut sequence.held.cache);
        }
        // One that was put aside has nothing to keep.
        let Some(mut sequence) = ended.filter(|sequence| sequence.held.cache.offset() > 0) else {
            return;
        };
        if !self.prefixes.is_due_behind_prompts() {
            return self.keep_buffers(sequence);
        }
        // One that has read all of its prompt has kept it.
        if (sequence.held.cache.offset().unsigned_abs() as usize) < sequence.prompt {
            self.keep(&mut sequence);
            self.write_of(&mut sequence);
        }
        self.last = Some(sequence.held);
    }

    fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.last = None;
        self.make_way(self.bytes_to_come(ids.len()));
        let rows = self.all_logits(ids);
        memory::clear_cache()?;
        rows
    }

    fn texts_together(&self, lengths: &[usize], want: &Reading) -> usize {
        let chunk = self.text_chunk();
        let whole = lengths.iter().take_while(|length| **length <= chunk);
        match want {
            Reading::Pooled { .. } => self.model.texts_together(&lengths[..whole.count()]),
            Reading::Next(_) => 1,
        }
    }

    fn has_room_for_texts(&mut self, lengths: &[usize]) -> bool {
        let each = self.model.info().cache_bytes_per_token();
        let bytes = |length: &usize| {
            let tokens = (*length as u64).next_multiple_of(GROWTH as u64);
            tokens.saturating_mul(each)
        };
        let texts = lengths.iter().map(bytes).fold(0, u64::saturating_add);
        // What nobody is using goes for it.
        let running = self.held_bytes().saturating_sub(self.kept_bytes());
        let needed = self.weights.saturating_add(running).saturating_add(texts);
        if needed <= self.limit {
            self.make_way(texts);
        }
        needed <= self.limit
    }

    fn read_texts(&mut self, texts: &[&[u32]], want: &Reading) -> Result<Vec<Vec<f32>>> {
        self.last = None;
        let one = |ids: &&[u32]| {
            let mut cache = self.model.new_cache();
            match want {
                Reading::Pooled { modes, skip } => self.pooled(ids, modes, *skip, &mut cache),
                Reading::Next(tokens) => self.next_logits(ids, tokens, &mut cache),
            }
        };
        let read = match want {
            Reading::Pooled { modes, skip } if texts.len() > 1 => {
                self.pooled_together(texts, modes, *skip)
            }
            _ => texts.iter().map(one).collect(),
        };
        self.release_buffers()?;
        read
    }

    fn memory(&mut self) -> Result<MemoryUse> {
        let caches = self.held_bytes();
        self.share.set(self.weights + caches);
        // Another model's request may have begun, and its peak with it.
        let active = memory::active()? as u64;
        Ok(MemoryUse {
            active,
            peak: active.max(memory::peak()? as u64),
            accounted: Share::total(),
        })
    }

    fn release_buffers(&mut self) -> Result<()> {
        match self
            .kept
            .allows(memory::cache()? as u64, memory::active()? as u64)
        {
            true => Ok(()),
            false => Ok(memory::clear_cache()?),
        }
    }

    fn rest(&mut self) {
        kernels::release_kept(SCRATCH_BETWEEN_REQUESTS);
        // On a GPU this memory is the driver's.
        if device::current().is_ok_and(|kind| kind == DeviceKind::Cpu) {
            memory::trim_heap();
        }
    }

    fn released() {
        // A step that nobody waited for may still be at work, on a CPU in the scratch memory. Where the
        // device never opened there is nothing to wait for, and no cache.
        let _ = device::synchronize();
        kernels::release_kept(0);
        let _ = memory::clear_cache();
        memory::trim_heap();
    }

    fn drop_caches(&mut self, id: Option<SequenceId>) -> Result<()> {
        // An evaluation that failed leaves work on a GPU's stream that may still use the buffers.
        let finished = device::synchronize();
        if let Some(place) = id.and_then(|id| self.sequences.get_mut(id.0)) {
            *place = None;
        }
        self.last = None;
        self.prefixes.clear();
        // There may be too little memory.
        memory::clear_cache()?;
        Ok(finished?)
    }
}

/// Sequences that are taken out of a model, and go back when this goes, also in a panic.
struct Taken<'a> {
    model: &'a mut MlxModel,
    ids: Vec<SequenceId>,
    sequences: Vec<Sequence>,
}

impl<'a> Taken<'a> {
    fn new(model: &'a mut MlxModel, ids: Vec<SequenceId>) -> Self {
        let sequences = ids.iter().map(|id| model.take(*id)).collect();
        Self {
            model,
            ids,
            sequences,
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (id, sequence) in self.ids.iter().zip(self.sequences.drain(..)) {
            self.model.put_back(*id, sequence);
        }
    }
}

/// Ids were checked against the vocabulary, so they fit.
fn ids_array(ids: &[u32]) -> Result<Array> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let shape = [ids.len() as i32];
    // After a failure MLX's wait for a copy to the GPU may fail, whatever becomes of the copy.
    let copies = device::current()? == DeviceKind::Cuda && cuda::failures() == 0;
    if ids.len() == 1 || !copies {
        return Ok(Array::from_slice(&ids, &shape)?);
    }
    // The GPU would read the host's memory, page by page: 0.2 ms for a prompt of 2048 tokens.
    let bytes: Vec<u8> = ids.into_iter().flat_map(i32::to_ne_bytes).collect();
    let range = 0..bytes.len();
    Ok(Array::from_owned_bytes(
        Arc::new(bytes),
        range,
        &shape,
        Dtype::Int32,
    )?)
}
