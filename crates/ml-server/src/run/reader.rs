//! The threads that read answers from the engine: the first of a prompt's asks for all of them.

use std::sync::Arc;

use ml_backend::{
    AnswerEvent, AnswerStream, FinishReason, GenerationStream, MlxBackend, TokenLogprobs,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Sender;

use super::{Job, Prompt, Report, spawn};
use crate::app::App;
use crate::errors::ApiError;
use crate::metrics::UnderWay;
use crate::models::InUse;
use crate::run::{End, Event, Finish, Probable, Told, Usage};

/// Reads one answer on a thread of its own.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) app: Arc<App>,
    pub(super) backend: InUse,
    pub(super) index: usize,
    pub(super) sender: Sender<(usize, Report)>,
}

impl Reader {
    /// Asks for the answers of a job and reads them: the first one here, and each other one on a thread of its own.
    pub(super) fn read_all(self, job: Job, places: Vec<OwnedSemaphorePermit>) {
        let under_way = self.app.metrics.begin();
        let streams = match Stream::start(&self.backend, &job) {
            Ok(streams) => streams,
            Err(error) => return self.report(Report::Failed(ApiError::from(&error))),
        };
        let job = Arc::new(job);
        let mut answers = streams.into_iter().zip(places);
        let Some((first, place)) = answers.next() else {
            return;
        };
        for (at, (stream, place)) in (1..).zip(answers) {
            let (mut reader, job) = (self.clone(), Arc::clone(&job));
            reader.index += at;
            let read = move || reader.read(&job, stream, place, reader.app.metrics.begin());
            if let Err(error) = spawn(read) {
                return self.report(Report::Failed(error));
            }
        }
        self.read(&job, first, place, under_way);
    }

    /// Reads an answer to its end; `place` is free again before its client knows of that.
    fn read(
        &self,
        job: &Job,
        mut stream: Stream,
        place: OwnedSemaphorePermit,
        mut under_way: UnderWay<'_>,
    ) {
        self.report(Report::Admitted(stream.prompt_tokens()));
        while let Some(piece) = stream.next() {
            match piece {
                Ok(step) => {
                    under_way.piece(step.tokens);
                    if !step.logprobs.is_empty() {
                        let probable = self.probable(&step.logprobs);
                        self.report(Report::Event(Event::Probable(probable)));
                    }
                    step.events
                        .into_iter()
                        .for_each(|event| self.report(Report::Event(event)));
                }
                Err(error) => {
                    under_way.broke_off();
                    tracing::debug!("an answer broke off: {error}");
                    return self.report(Report::Failed(ApiError::from(&error)));
                }
            }
            if self.sender.is_closed() {
                // The engine says when it has let go, and until then the answer counts as running.
                job.options.cancel.cancel();
            }
        }
        if let Some((finish, figures)) = stream.end() {
            under_way.piece(0);
            under_way.ended(figures);
            let usage = Usage {
                prompt: figures.prompt_tokens,
                cached: figures.reused_tokens,
                generated: figures.generated_tokens,
            };
            if let Some(end) = stream.end_logprobs() {
                let end = self.probable(std::slice::from_ref(end));
                self.report(Report::Event(Event::Probable(end)));
            }
            let prompt = stream.prompt_logprobs();
            if !prompt.is_empty() {
                self.report(Report::Event(self.prompt(job, prompt)));
            }
            // Who has the end may ask again, and look at the figures.
            drop((under_way, place));
            self.report(Report::Event(Event::End(End { finish, usage })));
        }
    }

    /// How probable the prompt was.
    fn prompt(&self, job: &Job, logprobs: &[TokenLogprobs]) -> Event {
        let first = match &job.prompt {
            Prompt::Ids(ids) => ids.first().copied(),
            Prompt::Text(text) => self
                .backend
                .encode(text)
                .ok()
                .and_then(|ids| ids.first().copied()),
            Prompt::Chat(_) | Prompt::Middle { .. } => None,
        };
        let first = first.map(|id| self.told(id, 0.0).text());
        Event::Prompt {
            first: first.unwrap_or_default(),
            rest: self.probable(logprobs),
        }
    }

    fn probable(&self, logprobs: &[TokenLogprobs]) -> Vec<Probable> {
        let one = |one: &TokenLogprobs| Probable {
            token: self.told(one.id, one.logprob),
            top: one
                .top
                .iter()
                .map(|other| self.told(other.id, other.logprob))
                .collect(),
        };
        logprobs.iter().map(one).collect()
    }

    fn told(&self, id: u32, logprob: f32) -> Told {
        let bytes = self.backend.token_bytes(id).unwrap_or_default();
        Told { bytes, logprob }
    }

    /// Nobody may be there any more, which the caller sees at the channel.
    fn report(&self, report: Report) {
        let _ = self.sender.blocking_send((self.index, report));
    }
}

/// What a step of a stream brought.
struct Step {
    /// How many tokens it is.
    tokens: usize,
    logprobs: Vec<TokenLogprobs>,
    events: Vec<Event>,
}

/// The engine's streams: of a conversation in its parts, of a text as it is.
enum Stream {
    Answer(Box<AnswerStream>),
    Text(Box<GenerationStream>),
}

impl Stream {
    fn start(backend: &MlxBackend, job: &Job) -> ml_backend::Result<Vec<Self>> {
        let mut options = job.options.clone();
        if options.max_tokens.is_none() && backend.info().model.context.is_some() {
            // What is left of the context.
            options.max_tokens = Some(usize::MAX);
        }
        let texts = match &job.prompt {
            Prompt::Chat(messages) => {
                let streams = backend.stream_answer_n(messages, &options, job.n)?;
                let answer = |stream| Self::Answer(Box::new(stream));
                return Ok(streams.into_iter().map(answer).collect());
            }
            Prompt::Text(text) => backend.stream_n(text, &options, job.n),
            Prompt::Ids(ids) => backend.stream_ids_n(ids, &options, job.n),
            Prompt::Middle { prefix, suffix } => {
                backend.stream_fill_in_the_middle(prefix, suffix, &options, job.n)
            }
        };
        let text = |stream| Self::Text(Box::new(stream));
        Ok(texts?.into_iter().map(text).collect())
    }

    fn prompt_tokens(&self) -> usize {
        match self {
            Self::Answer(stream) => stream.prompt_tokens(),
            Self::Text(stream) => stream.prompt_tokens(),
        }
    }

    /// What a step brought, which may be nothing yet.
    fn next(&mut self) -> Option<ml_backend::Result<Step>> {
        match self {
            Self::Answer(stream) => {
                let piece = stream.next()?;
                Some(piece.map(|piece| {
                    let events = piece.events.into_iter().filter_map(event);
                    Step {
                        tokens: piece.raw.token_ids.len(),
                        logprobs: piece.raw.logprobs,
                        events: events.collect(),
                    }
                }))
            }
            Self::Text(stream) => {
                let piece = stream.next()?;
                Some(piece.map(|piece| Step {
                    tokens: piece.token_ids.len(),
                    logprobs: piece.logprobs,
                    events: vec![Event::Text(piece.text)],
                }))
            }
        }
    }

    /// Of the token that ended a text. lm-evaluation-harness counts on as many tokens as were drawn; chats, in
    /// OpenAI's API, tell those of the answer alone.
    fn end_logprobs(&self) -> Option<&TokenLogprobs> {
        match self {
            Self::Answer(_) => None,
            Self::Text(stream) => stream.generation()?.end_logprobs.as_ref(),
        }
    }

    /// Of the prompt, where they were asked for and the stream ended.
    fn prompt_logprobs(&self) -> &[TokenLogprobs] {
        match self {
            Self::Answer(_) => &[],
            Self::Text(stream) => stream
                .generation()
                .map_or(&[], |whole| &whole.prompt_logprobs),
        }
    }

    /// Why it ended, and its figures.
    fn end(&self) -> Option<(Finish, &ml_backend::Metrics)> {
        let (reason, figures) = match self {
            Self::Answer(stream) => (stream.answer().finish_reason, &stream.answer().metrics),
            Self::Text(stream) => {
                let generation = stream.generation()?;
                (generation.finish_reason, &generation.metrics)
            }
        };
        let finish = match reason {
            FinishReason::Length | FinishReason::Context => Finish::Length,
            FinishReason::StopText => Finish::StopText,
            FinishReason::ToolCalls => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        Some((finish, figures))
    }
}

fn event(event: AnswerEvent) -> Option<Event> {
    match event {
        AnswerEvent::Text(text) => Some(Event::Text(text)),
        AnswerEvent::Reasoning(text) => Some(Event::Reasoning(text)),
        AnswerEvent::ToolCallStart { index, id, name } => Some(Event::Call {
            call: index,
            id,
            name,
        }),
        AnswerEvent::ToolCallArguments { index, json } => {
            Some(Event::Arguments { call: index, json })
        }
        AnswerEvent::ToolCallUndone { index, text } => Some(Event::Undone { call: index, text }),
        // The end of a call shows by what follows.
        _ => None,
    }
}
