//! Answers under way: from the engine's streams to the handlers.
//!
//! An engine's stream blocks, so each answer has a thread that reads it and passes on what comes through a channel
//! of bounded size. A client that reads slowly holds up its own thread and nobody else: the engine's channel takes
//! all of an answer. A client that goes away drops its [`Run`], which cancels the answer; the engine sees that
//! before the next token.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use ml_backend::{CancelToken, FinishReason, GenerationStream, Message, MlxBackend, Options};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::app::{App, Stage};
use crate::errors::{ApiError, Result};

/// What is to be answered.
#[derive(Clone, Debug)]
pub(crate) enum Prompt {
    Chat(Vec<Message>),
    Text(String),
    Ids(Vec<u32>),
}

/// One answer that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) prompt: Prompt,
    pub(crate) options: Options,
}

/// What comes of an answer, in the order in which it comes.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Some of its text.
    Text(String),
    /// Some of what the model thinks before it.
    Reasoning(String),
    /// A call of a tool begins, the answer's `call`th.
    Call {
        call: usize,
        id: String,
        name: String,
    },
    /// Some of the JSON of its arguments.
    Arguments { call: usize, json: String },
    /// Why there is no more, and what it took.
    End(End),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    StopText,
    Length,
    ToolCalls,
}

/// Tokens of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    /// Of the prompt, those that were known.
    pub(crate) cached: usize,
    pub(crate) generated: usize,
}

impl Usage {
    /// Of several answers, one prompt each.
    pub(crate) fn add(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.generated += other.generated;
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) reasoning: Option<String>,
    pub(crate) calls: Vec<Call>,
    pub(crate) end: End,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) arguments: String,
}

enum Report {
    /// It has a place in the queue; so many tokens are its prompt.
    Admitted(usize),
    Event(Event),
    Failed(ApiError),
}

/// Answers of one request. When it goes, they are cancelled.
pub(crate) struct Run {
    reports: Receiver<(usize, Report)>,
    cancel: CancelToken,
    aborted: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Tokens of each prompt.
    prompt_tokens: Vec<usize>,
    /// What came before all were admitted.
    early: std::collections::VecDeque<(usize, Report)>,
    /// Answers that have not ended.
    left: usize,
}

/// Reports that a client may lag behind before its thread waits for it.
const LAG: usize = 256;

impl Run {
    /// Starts the jobs, and waits until each of them has a place in the engine's queue.
    ///
    /// # Errors
    /// What each of them can be refused for; then none runs.
    pub(crate) async fn start(
        app: &Arc<App>,
        backend: &MlxBackend,
        jobs: Vec<Job>,
    ) -> Result<Self> {
        let places = app.admit(jobs.len())?;
        let (sender, reports) = channel(LAG);
        let cancel = CancelToken::new();
        let count = jobs.len();
        let mut run = Self {
            reports,
            cancel: cancel.clone(),
            aborted: Box::pin(app.reached(Stage::Aborting)),
            prompt_tokens: vec![0; count],
            early: Default::default(),
            left: count,
        };
        for (index, (mut job, place)) in jobs.into_iter().zip(places).enumerate() {
            job.options.cancel = cancel.clone();
            let reader = Reader {
                app: Arc::clone(app),
                backend: backend.clone(),
                index,
                sender: sender.clone(),
            };
            let work = move || {
                reader.read(&job);
                drop(place);
            };
            let thread = std::thread::Builder::new()
                .name("answer".to_owned())
                .spawn(work);
            if thread.is_err() {
                let message = "there is no thread left for the answer; try again later";
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1));
            }
        }
        drop(sender);
        run.wait_until_admitted(count).await?;
        Ok(run)
    }

    async fn wait_until_admitted(&mut self, mut missing: usize) -> Result<()> {
        while missing > 0 {
            match poll_fn(|context| self.poll_report(context)).await {
                (index, Report::Admitted(tokens)) => {
                    if let Some(slot) = self.prompt_tokens.get_mut(index) {
                        *slot = tokens;
                    }
                    missing -= 1;
                }
                (_, Report::Failed(error)) => return Err(error),
                other => self.early.push_back(other),
            }
        }
        Ok(())
    }

    /// Tokens of the prompt of answer `index`.
    pub(crate) fn prompt_tokens(&self, index: usize) -> usize {
        self.prompt_tokens.get(index).copied().unwrap_or(0)
    }

    /// The next event, of any of the answers; `None` when all have ended, or one has failed.
    pub(crate) fn poll_event(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<(usize, Event)>>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            let next = match self.early.pop_front() {
                Some(report) => report,
                None => match self.poll_report(context) {
                    Poll::Ready(report) => report,
                    Poll::Pending => return Poll::Pending,
                },
            };
            match next {
                (_, Report::Admitted(_)) => {}
                (index, Report::Event(event)) => {
                    if matches!(event, Event::End(_)) {
                        self.left -= 1;
                    }
                    return Poll::Ready(Some(Ok((index, event))));
                }
                (_, Report::Failed(error)) => {
                    self.left = 0;
                    self.cancel.cancel();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// Waits for all of it.
    pub(crate) async fn whole(mut self) -> Result<Vec<Whole>> {
        let mut answers = vec![Parts::default(); self.left];
        while let Some(event) = poll_fn(|context| self.poll_event(context)).await {
            let (index, event) = event?;
            if let Some(answer) = answers.get_mut(index) {
                answer.add(event);
            }
        }
        let all: Option<Vec<_>> = answers.into_iter().map(Parts::whole).collect();
        all.ok_or_else(engine_gone)
    }

    fn poll_report(&mut self, context: &mut Context<'_>) -> Poll<(usize, Report)> {
        if self.aborted.as_mut().poll(context).is_ready() {
            return Poll::Ready((0, Report::Failed(ApiError::shutting_down())));
        }
        let report = self.reports.poll_recv(context);
        report.map(|report| report.unwrap_or_else(|| (0, Report::Failed(engine_gone()))))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// An answer that is being put together.
#[derive(Clone, Default)]
struct Parts {
    text: String,
    reasoning: Option<String>,
    calls: Vec<Call>,
    end: Option<End>,
}

impl Parts {
    fn add(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.text.push_str(&text),
            Event::Reasoning(text) => self.reasoning.get_or_insert_default().push_str(&text),
            Event::Call { id, name, .. } => {
                let arguments = String::new();
                self.calls.push(Call {
                    id,
                    name,
                    arguments,
                });
            }
            Event::Arguments { call, json } => {
                if let Some(call) = self.calls.get_mut(call) {
                    call.arguments.push_str(&json);
                }
            }
            Event::End(end) => self.end = Some(end),
        }
    }

    fn whole(self) -> Option<Whole> {
        self.end.map(|end| Whole {
            text: self.text,
            reasoning: self.reasoning,
            calls: self.calls,
            end,
        })
    }
}

fn engine_gone() -> ApiError {
    let message = "the answer broke off without a reason";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error")
}

/// Reads one answer on a thread of its own.
struct Reader {
    app: Arc<App>,
    backend: MlxBackend,
    index: usize,
    sender: Sender<(usize, Report)>,
}

impl Reader {
    fn read(&self, job: &Job) {
        let mut under_way = self.app.metrics.begin();
        let mut stream = match start(&self.backend, job) {
            Ok(stream) => stream,
            Err(error) => return self.report(Report::Failed(ApiError::from(&error))),
        };
        self.report(Report::Admitted(stream.prompt_tokens()));
        for piece in stream.by_ref() {
            match piece {
                Ok(piece) => {
                    under_way.piece();
                    self.report(Report::Event(Event::Text(piece.text)));
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
        if let Some(generation) = stream.generation() {
            under_way.piece();
            under_way.ended(&generation.metrics);
            let usage = Usage {
                prompt: generation.metrics.prompt_tokens,
                cached: generation.metrics.reused_tokens,
                generated: generation.metrics.generated_tokens,
            };
            let finish = match generation.finish_reason {
                FinishReason::Length | FinishReason::Context => Finish::Length,
                FinishReason::StopText => Finish::StopText,
                _ => Finish::Stop,
            };
            self.report(Report::Event(Event::End(End { finish, usage })));
        }
    }

    /// Nobody may be there any more, which the caller sees at the channel.
    fn report(&self, report: Report) {
        let _ = self.sender.blocking_send((self.index, report));
    }
}

fn start(backend: &MlxBackend, job: &Job) -> ml_backend::Result<GenerationStream> {
    let mut options = job.options.clone();
    if options.max_tokens.is_none() && backend.info().model.context.is_some() {
        // What is left of the context.
        options.max_tokens = Some(usize::MAX);
    }
    match &job.prompt {
        Prompt::Chat(messages) => backend.stream_chat(messages, &options),
        Prompt::Text(text) => backend.stream(text, &options),
        Prompt::Ids(ids) => backend.stream_ids(ids, &options),
    }
}
