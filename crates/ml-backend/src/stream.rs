//! An answer as it comes: the iterator that everything else is built on.
//!
//! `generate` reads it to the end, `generate_stream` calls the callback for each of its pieces. It
//! runs on the caller's thread, so callbacks need not be `Send` and may take their time.
//!
//! The engine may be ahead of its reader. What counts as generated when the reader breaks off (its
//! callback failed, or it cancelled) is what it was handed, to the byte; the rest is discarded.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::engine::{Engine, Event, GenerateJob, Job};
use crate::metrics::{FinishReason, Generation, Piece};
use crate::request::Request;
use crate::text::Vocabulary;
use crate::{BoxError, CancelToken, Error, Result};

/// How often a request whose first piece is not there yet (it may wait behind another one) looks at
/// its cancel token.
const POLL: Duration = Duration::from_millis(20);

/// An iterator over the pieces of one answer. Dropping it cancels the generation.
///
/// It ends after the last piece, or after an error; once it ended without one, [`generation`] has
/// the whole text and the figures. It keeps the model loaded as long as it lives.
///
/// [`generation`]: Self::generation
pub struct GenerationStream {
    events: Receiver<Event>,
    cancel: CancelToken,
    abandoned: CancelToken,
    prompt_tokens: usize,
    ended: bool,
    /// Bytes of text and tokens that were handed out.
    handed_out: (usize, usize),
    whole: Option<Generation>,
    /// Last: when it goes, the engine may have to finish what it is doing for `events`.
    _engine: Arc<Engine>,
}

impl GenerationStream {
    /// A stream for each of `requests`, which have one prompt.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        requests: Vec<Request>,
        vocabulary: Option<&Arc<dyn Vocabulary>>,
        cancel: &CancelToken,
    ) -> Result<Vec<Self>> {
        let (mut jobs, mut streams) = (Vec::new(), Vec::new());
        for request in requests {
            let (events, receiver) = channel();
            let abandoned = CancelToken::new();
            streams.push(Self {
                events: receiver,
                cancel: cancel.clone(),
                abandoned: abandoned.clone(),
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
            });
        }
        engine.submit(Job::Generate(jobs))?;
        Ok(streams)
    }

    /// The whole answer and its figures, once the stream ended without an error.
    pub fn generation(&self) -> Option<&Generation> {
        self.whole.as_ref()
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
        let none_yet = self.handed_out.1 == 0 && !self.ended;
        loop {
            match self.events.recv_timeout(POLL) {
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) if none_yet && self.cancel.is_cancelled() => {
                    let partial = self.nothing(FinishReason::Cancelled).into();
                    return Event::Done(Err(Error::Cancelled { partial }));
                }
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
        if self.ended {
            return None;
        }
        match self.receive() {
            Event::Piece(_) if self.cancel.is_cancelled() => {
                let partial = self.break_off(FinishReason::Cancelled);
                Some(partial.and_then(|partial| {
                    Err(Error::Cancelled {
                        partial: partial.into(),
                    })
                }))
            }
            Event::Piece(piece) => {
                self.handed_out.0 += piece.text.len();
                self.handed_out.1 += piece.token_ids.len();
                Some(Ok(piece))
            }
            Event::Done(outcome) => {
                self.ended = true;
                match outcome {
                    Ok(generation) => {
                        self.whole = Some(generation);
                        None
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        }
    }
}

impl Drop for GenerationStream {
    fn drop(&mut self) {
        self.abandoned.cancel();
    }
}
