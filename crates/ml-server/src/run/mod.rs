//! Answers under way: from the engine's streams to the handlers.
//!
//! An engine's stream blocks, so each answer has a thread that reads it and passes on what comes through a channel
//! of bounded size. A client that reads slowly holds up its own thread and nobody else: the engine's channel takes
//! all of an answer. A client that goes away drops its [`Run`], which cancels the answer; the engine sees that
//! before the next token. Several answers to one prompt are asked of the engine at once, which reads the prompt once.

mod event;
mod force;
mod reader;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use ml_backend::{CancelToken, Message, Options};
use tokio::sync::mpsc::{Receiver, channel};

use crate::app::{App, Stage};
use crate::errors::{ApiError, Result};
use crate::models::InUse;
use event::Parts;
pub(crate) use event::{Call, End, Event, Finish, Probable, Told, Usage, Whole};
use reader::Reader;

/// What is to be answered.
#[derive(Clone, Debug)]
pub(crate) enum Prompt {
    Chat(Vec<Message>),
    Text(String),
    Ids(Vec<u32>),
    /// What stands between two texts.
    Middle {
        prefix: String,
        suffix: String,
    },
}

/// What is wanted of one prompt.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) prompt: Prompt,
    pub(crate) options: Options,
    /// So many answers, each with a seed of its own: the first one's is that of the options.
    pub(crate) n: usize,
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
    pub(crate) async fn start(app: &Arc<App>, backend: &InUse, jobs: Vec<Job>) -> Result<Self> {
        let count = jobs.iter().map(|job| job.n).sum();
        let mut places = app.admit(count)?.into_iter();
        let (sender, reports) = channel(LAG);
        let cancel = CancelToken::new();
        let mut run = Self {
            reports,
            cancel: cancel.clone(),
            aborted: Box::pin(app.reached(Stage::Aborting)),
            prompt_tokens: vec![0; count],
            early: Default::default(),
            left: count,
        };
        let mut index = 0;
        for mut job in jobs {
            job.options.cancel = cancel.clone();
            let places: Vec<_> = places.by_ref().take(job.n).collect();
            if app.test_force_tools {
                force::apply(&mut job);
            }
            let reader = Reader {
                app: Arc::clone(app),
                backend: backend.clone(),
                index,
                sender: sender.clone(),
            };
            index += job.n;
            spawn(move || reader.read_all(job, places))?;
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

/// Does `work` on a thread of its own.
fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("answer".to_owned());
    match thread.spawn(work) {
        Ok(_) => Ok(()),
        Err(_) => {
            let message = "there is no thread left for the answer; try again later";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1))
        }
    }
}

pub(crate) fn engine_gone() -> ApiError {
    let message = "the answer broke off without a reason";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).code("internal_error")
}
