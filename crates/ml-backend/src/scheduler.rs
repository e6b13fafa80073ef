//! Who comes next.
//!
//! Requests wait in the order in which they came, and are taken up in it as soon as there is a place and
//! memory for their prompts. Where answers have grown until memory is short, the one that came last is put
//! aside: its caches go, and when there is memory again they are filled anew and it goes on with the same
//! text. The oldest is never put aside, so what was taken up always ends. Those that decode take a step
//! together, and between two such steps a chunk of the oldest prompt is read, or as much of it as a turn allows,
//! and short ones beside it: that long an answer that is under way waits at the most. A request that ends, or that nobody waits for any more,
//! leaves between two steps, and its caches go with it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::generate::{REPLAY, Run};
use crate::language_model::LanguageModel;
use crate::metrics::{FinishReason, Generation, Piece};
use crate::request::Request;
use crate::text::Vocabulary;
use crate::{Error, Result};

/// Tokens of later prompts that are read beside the first one's chunk.
const SHORT: usize = 256;

/// Who asked for a generation.
pub(crate) trait Client {
    /// Looked at before each chunk of the prompt and before each token.
    fn is_cancelled(&self) -> bool;

    /// Takes a piece as soon as it is there.
    fn emit(&mut self, piece: Piece);

    /// The generation is taken up, or will never be.
    fn taken(&mut self);

    /// Nothing comes after this.
    fn done(&mut self, outcome: Result<Generation>);
}

/// How a model's requests are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// How many at the same time; one at the least.
    pub(crate) at_once: usize,
    /// How long a prompt is read between two steps of others, where the model can pause.
    pub(crate) turn: Duration,
}

/// Tokens by which each answer can grow when one more request is taken up, lest that is put aside at once.
const MARGIN: usize = 256;

/// Between two looks at a prompt that comes from disk.
const A_MOMENT: Duration = Duration::from_millis(1);

/// A request that waits.
struct Waiting<C> {
    request: Request,
    vocabulary: Option<Arc<dyn Vocabulary>>,
    client: C,
    since: Instant,
    copies: Vec<Self>,
}

impl<C: Client> Waiting<C> {
    /// It will never be taken up.
    fn end_cancelled(mut self) {
        let nothing = Generation::nothing(self.request.prompt.len(), FinishReason::Cancelled);
        let partial = nothing.into();
        self.client.taken();
        self.client.done(Err(Error::Cancelled { partial }));
    }
}

/// One that was taken up.
struct Running<T, C> {
    run: Run<T>,
    client: C,
    /// Further answers to its prompt, which begin when that has been read.
    copies: Vec<Waiting<C>>,
}

/// The requests of a model.
pub(crate) struct Scheduler<T, C> {
    waiting: VecDeque<Waiting<C>>,
    /// Those whose caches were given up: they came before all that wait.
    aside: VecDeque<Running<T, C>>,
    /// In the order in which they came.
    running: Vec<Running<T, C>>,
    service: Service,
    /// See [`MARGIN`].
    margin: usize,
}

impl<T, C: Client> Scheduler<T, C> {
    pub(crate) fn new(service: Service) -> Self {
        Self {
            waiting: VecDeque::new(),
            aside: VecDeque::new(),
            running: Vec::new(),
            service,
            margin: MARGIN,
        }
    }

    /// Puts a request at the end of the queue, which waits `since` then.
    pub(crate) fn add(
        &mut self,
        request: Request,
        vocabulary: Option<Arc<dyn Vocabulary>>,
        client: C,
        since: Instant,
    ) {
        self.waiting.push_back(Waiting {
            request,
            vocabulary,
            client,
            since,
            copies: Vec::new(),
        });
    }

    /// Adds one to the last that waits: another answer to the same prompt, which is read once for both where there is
    /// a place for it by then.
    pub(crate) fn add_copy(
        &mut self,
        request: Request,
        vocabulary: Option<Arc<dyn Vocabulary>>,
        client: C,
        since: Instant,
    ) {
        self.add(request, vocabulary, client, since);
        if let Some(copy) = self.waiting.pop_back() {
            match self.waiting.back_mut() {
                Some(first) => first.copies.push(copy),
                None => self.waiting.push_back(copy),
            }
        }
    }

    /// Those whose prompt nobody has read for them wait as if they came before the others.
    fn wait_again(&mut self, copies: Vec<Waiting<C>>, together: bool) {
        let mut copies = copies.into_iter();
        if together && let Some(mut first) = copies.next() {
            first.copies.extend(copies);
            self.waiting.push_front(first);
            return;
        }
        for copy in copies.rev() {
            self.waiting.push_front(copy);
        }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.aside.is_empty() && self.running.is_empty()
    }

    /// Goes on with all that is there: takes up who has a place, gives each that decodes a token, and reads on
    /// in prompts.
    pub(crate) fn step<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        self.take_up(model);
        self.put_aside(model);
        self.decode(model);
        self.read_prompts(model);
    }

    /// Takes up those that wait, in their order, as long as there is a place.
    fn take_up<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        self.end_cancelled_waiting();
        self.end_cancelled_aside(model);
        while self.running.len() < self.service.at_once.max(1) {
            if let Some(next) = self.aside.front() {
                // While it fills its caches the others go on.
                let generated = next.run.generated();
                let margin = self.margin + generated / REPLAY;
                if !self.has_room(model, Some((next.run.request(), generated)), margin) {
                    return;
                }
                if let Some(mut next) = self.aside.pop_front() {
                    match catching(|| {
                        next.run.resume(model);
                        Ok(())
                    }) {
                        Ok(()) => self.running.push(next),
                        Err(error) => self.end(model, next, Err(error)),
                    }
                }
                continue;
            }
            let next = self.waiting.front().map(|waiting| (&waiting.request, 0));
            if !self.has_room(model, next, self.margin) {
                return;
            }
            let Some(waiting) = self.waiting.pop_front() else {
                return;
            };
            let Waiting {
                request,
                vocabulary,
                mut client,
                since,
                copies,
            } = waiting;
            client.taken();
            let queued = since.elapsed();
            let run = catching(|| Ok(Run::new(request, vocabulary.as_deref(), queued)));
            let mut run = match run {
                Ok(run) => run,
                Err(error) => {
                    client.done(Err(error));
                    self.wait_again(copies, true);
                    continue;
                }
            };
            let begun = catching(|| run.begin(model));
            let one = Running {
                run,
                client,
                copies,
            };
            match begun {
                Ok(None) => self.running.push(one),
                Ok(Some(reason)) => self.end(model, one, Ok(reason)),
                Err(error) => self.end(model, one, Err(error)),
            }
        }
    }

    /// Whether there is memory for one more beside those that run, each with so many more tokens. Alone, what does
    /// not fit fails with what is missing.
    fn has_room<M>(&self, model: &mut M, one_more: Option<(&Request, usize)>, more: usize) -> bool
    where
        M: LanguageModel<Token = T>,
    {
        let running = self
            .running
            .iter()
            .map(|one| (one.run.request(), one.run.generated()));
        let all = running
            .chain(one_more)
            .map(|(request, generated)| (request, generated + more));
        let all: Vec<_> = all.collect();
        all.len() < 2 || model.has_room(&all)
    }

    /// Puts those aside that came last until there is memory for the next step of the others.
    fn put_aside<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        while !self.has_room(model, None, 1)
            && let Some(mut last) = self.running.pop()
        {
            match catching(|| {
                last.run.put_aside(model);
                Ok(())
            }) {
                Ok(()) => self.aside.push_front(last),
                Err(error) => self.end(model, last, Err(error)),
            }
        }
    }

    /// Ends those in the queue that nobody waits for any more: they need no place, and what the caches hold stays
    /// for who comes next.
    fn end_cancelled_waiting(&mut self) {
        while let Some(i) = self
            .waiting
            .iter()
            .position(|one| one.client.is_cancelled())
            && let Some(mut one) = self.waiting.remove(i)
        {
            let copies = std::mem::take(&mut one.copies);
            one.end_cancelled();
            let mut copies = copies.into_iter();
            if let Some(mut first) = copies.next() {
                first.copies.extend(copies);
                self.waiting.insert(i, first);
            }
        }
    }

    /// Ends those put aside that nobody waits for any more.
    fn end_cancelled_aside<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        while let Some(i) = self.aside.iter().position(|one| one.client.is_cancelled())
            && let Some(one) = self.aside.remove(i)
        {
            self.end(model, one, Ok(FinishReason::Cancelled));
        }
    }

    /// One token for each that decodes.
    fn decode<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        self.end_cancelled(model, Run::has_token);
        let mut next = self.next_tokens(model).into_iter();
        let mut i = 0;
        while let Some(one) = self.running.get_mut(i) {
            if !one.run.has_token() {
                i += 1;
                continue;
            }
            let next = match one.run.next_step().is_some() {
                true => next.next(),
                false => None,
            };
            let Running { run, client, .. } = one;
            let taken = catching(|| run.take(model, next, &mut |piece| client.emit(piece)));
            match taken {
                Ok(None) => i += 1,
                Ok(Some(reason)) => self.end_at(model, i, Ok(reason)),
                Err(error) => self.end_at(model, i, Err(error)),
            }
        }
    }

    /// Submits a step of each that wants one; the tokens in their order.
    fn next_tokens<M>(&self, model: &mut M) -> Vec<Result<T>>
    where
        M: LanguageModel<Token = T>,
    {
        let running = self.running.iter();
        let steps: Vec<_> = running.filter_map(|one| one.run.next_step()).collect();
        if steps.is_empty() {
            return Vec::new();
        }
        match catching(|| model.next(&steps)) {
            Ok(tokens) => tokens,
            Err(error) if steps.len() == 1 => vec![Err(error)],
            Err(Error::Panicked { message }) => {
                let panicked = |_| {
                    Err(Error::Panicked {
                        message: message.clone(),
                    })
                };
                steps.iter().map(panicked).collect()
            }
            // One of them is at fault, or there is no memory for all at once: each by itself, so that nobody
            // fails for another.
            Err(error) => {
                tracing::warn!(%error, requests = steps.len(), "a step together failed; each goes by itself");
                let alone = |step| {
                    let tokens = catching(|| model.next(&[step]))?;
                    tokens.into_iter().next().unwrap_or(Err(Error::EngineEnded))
                };
                steps.into_iter().map(alone).collect()
            }
        }
    }

    /// A chunk of the prompt that has waited longest, and one of each behind it that is short.
    fn read_prompts<M>(&mut self, model: &mut M)
    where
        M: LanguageModel<Token = T>,
    {
        self.end_cancelled(model, Run::has_prompt);
        let decodes = self.running.iter().any(|one| one.run.has_token());
        let turn = self.service.turn;
        let began = Instant::now();
        let mut in_turn = || !decodes || began.elapsed() < turn;
        let (mut i, mut is_first, mut room) = (0, true, SHORT);
        let mut waits = false;
        while let Some(Running { run, .. }) = self.running.get_mut(i) {
            match catching(|| run.fetches(model)) {
                Ok(false) => {}
                Ok(true) => {
                    waits = true;
                    i += 1;
                    continue;
                }
                Err(error) => {
                    self.end_at(model, i, Err(error));
                    continue;
                }
            }
            let next = run.next_chunk();
            if next == 0 {
                i += 1;
                continue;
            }
            let mut whole = || true;
            let mut more: &mut dyn FnMut() -> bool = &mut in_turn;
            if !std::mem::take(&mut is_first) {
                more = &mut whole;
                // A step takes as long as a short prompt.
                if next > room || run.replays() {
                    i += 1;
                    continue;
                }
                room -= next;
            }
            match catching(|| run.read_prompt(model, more)) {
                Ok(()) => {
                    self.begin_copies(model, i);
                    i += 1;
                }
                Err(error) => self.end_at(model, i, Err(error)),
            }
        }
        if waits && is_first && !decodes {
            // There is nothing to do but to wait for a disk.
            std::thread::sleep(A_MOMENT);
        }
    }

    /// Lets the further answers to a prompt begin, if it has been read and there is room: from its caches.
    fn begin_copies<M>(&mut self, model: &mut M, i: usize)
    where
        M: LanguageModel<Token = T>,
    {
        let Some(Running { run, copies, .. }) = self.running.get_mut(i) else {
            return;
        };
        let Some(first) = run.sequence().filter(|_| run.has_token()) else {
            return;
        };
        let mut copies: VecDeque<_> = std::mem::take(copies).into();
        let mut at = i + 1;
        while let Some(copy) = copies.front()
            && model.can_copy()
            && self.running.len() < self.service.at_once.max(1)
            && self.has_room(model, Some((&copy.request, 0)), self.margin)
            && let Some(mut copy) = copies.pop_front()
        {
            if copy.client.is_cancelled() {
                copy.end_cancelled();
                continue;
            }
            copy.client.taken();
            let queued = copy.since.elapsed();
            let mut run = Run::new(copy.request, copy.vocabulary.as_deref(), queued);
            let begun = catching(|| run.begin_as(model, first));
            let one = Running {
                run,
                client: copy.client,
                copies: Vec::new(),
            };
            match begun {
                Ok(()) => {
                    self.running.insert(at, one);
                    at += 1;
                }
                Err(error) => self.end(model, one, Err(error)),
            }
        }
        self.wait_again(copies.into(), model.can_copy());
    }

    /// Ends those of a kind that nobody waits for any more.
    fn end_cancelled<M>(&mut self, model: &mut M, of_kind: impl Fn(&Run<T>) -> bool)
    where
        M: LanguageModel<Token = T>,
    {
        let mut i = 0;
        while let Some(one) = self.running.get(i) {
            match of_kind(&one.run) && one.client.is_cancelled() {
                true => self.end_at(model, i, Ok(FinishReason::Cancelled)),
                false => i += 1,
            }
        }
    }

    /// Ends the one at `i`.
    fn end_at<M>(&mut self, model: &mut M, i: usize, outcome: Result<FinishReason>)
    where
        M: LanguageModel<Token = T>,
    {
        let one = self.running.remove(i);
        self.end(model, one, outcome);
    }

    /// Ends one that is in no list.
    fn end<M>(&mut self, model: &mut M, one: Running<T, C>, outcome: Result<FinishReason>)
    where
        M: LanguageModel<Token = T>,
    {
        let Running {
            run,
            mut client,
            copies,
        } = one;
        self.wait_again(copies, model.can_copy());
        let sequence = run.sequence();
        let finished = match outcome {
            Err(error @ Error::Panicked { .. }) => Err(error),
            outcome => catching(|| run.finish(model, outcome, &mut |piece| client.emit(piece))),
        };
        if matches!(finished, Err(Error::Panicked { .. })) {
            // What the caches hold now is unknown.
            let _ = catching(|| model.drop_caches(sequence));
        }
        if self.running.is_empty() {
            model.rest();
        }
        client.done(finished);
    }
}

/// Runs `work`; a panic in it is an error.
pub(crate) fn catching<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Unwind safety: what a panic may leave half-done are the caches, which are dropped after one.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Error::Panicked {
            message: text.unwrap_or("no message").to_owned(),
        })
    })
}

#[cfg(test)]
mod tests;
