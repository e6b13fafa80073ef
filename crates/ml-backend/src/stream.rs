//! An answer as it comes: the iterator that everything else is built on.
//!
//! `generate` reads it to the end, `generate_stream` calls the callback for each of its pieces. It
//! runs on the caller's thread, so callbacks need not be `Send` and may take their time.
//!
//! The engine may be ahead of its reader. What counts as generated when the reader breaks off (its
//! callback failed, or it cancelled) is what it was handed, to the byte; the rest is discarded.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;

use crate::engine::{Engine, Event, GenerateJob, Job, Listener, bell};
use crate::metrics::{FinishReason, Generation, Piece};
use crate::request::Request;
use crate::text::Vocabulary;
use crate::{BoxError, CancelToken, Error, Result};

/// How often a request whose first piece is not there yet (it may wait behind another one) looks at
/// its cancel token.
const POLL: Duration = Duration::from_millis(20);

/// The pieces of one answer: an iterator, and for tasks a [`Stream`], which never blocks and is woken by the engine.
/// Dropping it cancels the generation.
///
/// It ends after the last piece, or after an error; once it ended without one, [`generation`] has
/// the whole text and the figures. It keeps the model loaded as long as it lives.
///
/// [`generation`]: Self::generation
pub struct GenerationStream {
    events: Receiver<Event>,
    cancel: CancelToken,
    abandoned: CancelToken,
    /// Whether the user has cancelled, and what still comes is discarded.
    cancelled: bool,
    listener: Listener,
    prompt_tokens: usize,
    ended: bool,
    /// Bytes of text and tokens that were handed out.
    handed_out: (usize, usize),
    whole: Option<Generation>,
    /// Last: when it goes, the engine may have to finish what it is doing for `events`.
    _engine: Arc<Engine>,
}

impl GenerationStream {
    /// A stream for each of `requests`, which have one prompt. More than may wait are not even made.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        requests: impl Iterator<Item = Request>,
        vocabulary: Option<&Arc<dyn Vocabulary>>,
        cancel: &CancelToken,
    ) -> Result<Vec<Self>> {
        let (mut jobs, mut streams) = (Vec::new(), Vec::new());
        for request in requests {
            let (events, receiver) = channel();
            let (bell, listener) = bell();
            let abandoned = CancelToken::new();
            streams.push(Self {
                events: receiver,
                cancel: cancel.clone(),
                abandoned: abandoned.clone(),
                cancelled: false,
                listener,
                prompt_tokens: request.prompt.len(),
                ended: false,
                handed_out: (0, 0),
                whole: None,
                _engine: Arc::clone(engine),
            });
            jobs.push(GenerateJob {
                request,
                vocabulary: vocabulary.cloned(),
                cancel: [cancel.clone(), abandoned],
                events,
                place: Some(engine.place()?),
                since: Instant::now(),
                bell,
            });
        }
        engine.submit(Job::Generate(jobs))?;
        Ok(streams)
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// The whole answer and its figures, once the stream ended without an error.
    pub fn generation(&self) -> Option<&Generation> {
        self.whole.as_ref()
    }

    /// The next piece, if it is there: `Pending` where it is not, `None` behind the last one. Does not wait.
    pub fn try_next(&mut self) -> Poll<Option<Result<Piece>>> {
        while !self.ended {
            let event = match self.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) if self.is_given_up() => self.given_up(),
                Err(TryRecvError::Empty) => return Poll::Pending,
                Err(TryRecvError::Disconnected) => Event::Done(Err(Error::EngineEnded)),
            };
            if let Some(item) = self.take(event) {
                return Poll::Ready(item);
            }
        }
        Poll::Ready(None)
    }

    /// What an event gives the reader; `None` where nothing.
    fn take(&mut self, event: Event) -> Option<Option<Result<Piece>>> {
        match event {
            Event::Piece(_) if self.cancelled => None,
            Event::Piece(_) if self.cancel.is_cancelled() => {
                self.cancelled = true;
                self.abandoned.cancel();
                None
            }
            Event::Piece(piece) => {
                self.handed_out.0 += piece.text.len();
                self.handed_out.1 += piece.token_ids.len();
                Some(Some(Ok(piece)))
            }
            Event::Done(outcome) => {
                self.ended = true;
                if self.cancelled {
                    let partial = self.partial(outcome, FinishReason::Cancelled);
                    let error = partial.map(|partial| Error::Cancelled {
                        partial: partial.into(),
                    });
                    return Some(Some(Err(error.unwrap_or_else(|error| error))));
                }
                match outcome {
                    Ok(generation) => {
                        self.whole = Some(generation);
                        Some(None)
                    }
                    Err(error) => Some(Some(Err(error))),
                }
            }
        }
    }

    /// Whether the user has cancelled before there was anything: who waits behind others need not wait for that.
    fn is_given_up(&self) -> bool {
        self.handed_out.1 == 0 && !self.ended && self.cancel.is_cancelled()
    }

    fn given_up(&self) -> Event {
        let partial = self.nothing(FinishReason::Cancelled).into();
        Event::Done(Err(Error::Cancelled { partial }))
    }

    /// Waits for the end of the answer.
    pub(crate) fn wait(self) -> Result<Generation> {
        self.for_each_piece(|_| Ok(()))
    }

    /// Calls `on_piece` for each piece; its failure ends the generation.
    pub(crate) fn for_each_piece(
        mut self,
        mut on_piece: impl FnMut(&Piece) -> Result<(), BoxError>,
    ) -> Result<Generation> {
        while let Some(piece) = self.next() {
            if let Err(source) = on_piece(&piece?) {
                let partial = self.break_off(FinishReason::Callback)?.into();
                return Err(Error::Callback { partial, source });
            }
        }
        self.whole.take().ok_or(Error::EngineEnded)
    }

    /// The next event. Waiting for the first one ends when the user cancels.
    fn receive(&self) -> Event {
        loop {
            match self.events.recv_timeout(POLL) {
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) if self.is_given_up() => return self.given_up(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Event::Done(Err(Error::EngineEnded));
                }
            }
        }
    }

    /// Stops the engine's work on this and returns what was handed out of it.
    fn break_off(&mut self, reason: FinishReason) -> Result<Generation> {
        self.ended = true;
        self.abandoned.cancel();
        let outcome = loop {
            if let Event::Done(outcome) = self.receive() {
                break outcome;
            }
        };
        self.partial(outcome, reason)
    }

    /// What was handed out, of an answer that ended so.
    fn partial(&self, outcome: Result<Generation>, reason: FinishReason) -> Result<Generation> {
        let mut partial = match outcome {
            Ok(generation) => generation,
            Err(error) if error.partial().is_some() => {
                error.into_partial().unwrap_or_else(|| self.nothing(reason))
            }
            Err(error) => return Err(error),
        };
        let (bytes, tokens) = self.handed_out;
        partial.text.truncate(bytes);
        partial.token_ids.truncate(tokens);
        partial.logprobs.truncate(tokens);
        partial.end_logprobs = None;
        partial.metrics.generated_tokens = partial.token_ids.len();
        partial.finish_reason = reason;
        Ok(partial)
    }

    fn nothing(&self, finish_reason: FinishReason) -> Generation {
        Generation::nothing(self.prompt_tokens, finish_reason)
    }
}

impl Iterator for GenerationStream {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        while !self.ended {
            let event = self.receive();
            if let Some(item) = self.take(event) {
                return item;
            }
        }
        None
    }
}

impl Stream for GenerationStream {
    type Item = Result<Piece>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Piece>>> {
        let this = self.get_mut();
        // What comes from here on rings; what came before is there.
        this.listener.wait(context.waker());
        this.try_next()
    }
}

impl Drop for GenerationStream {
    fn drop(&mut self) {
        self.abandoned.cancel();
    }
}
