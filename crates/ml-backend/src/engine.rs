//! The one thread that a model lives on.
//!
//! An MLX stream belongs to the thread that made it, and an array to its stream. So a model is
//! loaded, run and freed on a thread of its own, and everybody else sends it requests. It serves
//! them one at a time, in the order in which they came; the pieces of an answer travel back through
//! a channel, so a caller's slow callback does not hold up the next caller's answer. When the model has
//! gone, the thread waits for the next one ([`threads`]).
//!
//! Nothing a caller does can make another one hang: a panic becomes an error of the request that
//! caused it, and if the thread ever ends, the channels say so.

mod threads;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::generate::{Surroundings, generate};
use crate::language_model::LanguageModel;
use crate::metrics::{FinishReason, Generation, Piece};
use crate::plan::Plan;
use crate::text::Vocabulary;
use crate::{CancelToken, Error, Result};
use threads::Running;

/// A request to the engine.
pub(crate) enum Job {
    Generate(GenerateJob),
    Logits {
        ids: Vec<u32>,
        reply: Sender<Result<Vec<f32>>>,
    },
}

pub(crate) struct GenerateJob {
    pub(crate) plan: Plan,
    pub(crate) vocabulary: Option<Arc<dyn Vocabulary>>,
    /// Either of them ends it: the user's, and the one of the stream that nobody reads any more.
    pub(crate) cancel: [CancelToken; 2],
    pub(crate) events: Sender<Event>,
}

/// What a generation reports.
pub(crate) enum Event {
    Piece(Piece),
    /// Nothing comes after this.
    Done(Result<Generation>),
}

/// The callers' end of the engine thread. Dropping it waits until the model is freed.
pub(crate) struct Engine {
    jobs: Option<Sender<Job>>,
    running: Running,
}

/// From the thread to whoever started it.
enum Report<P, I> {
    Progress(P),
    Ready(Result<I>),
}

impl Engine {
    /// Has a thread call `load` and then serve its model. Blocks until it is loaded;
    /// `progress` is called on this thread with what `load` reports.
    pub(crate) fn start<M, P, I, L>(load: L, progress: &mut dyn FnMut(P)) -> Result<(Self, I)>
    where
        M: LanguageModel,
        P: Send + 'static,
        I: Send + 'static,
        L: FnOnce(&mut dyn FnMut(P)) -> Result<(M, I)> + Send + 'static,
    {
        let (jobs, queue) = channel();
        let (report, reports) = channel();
        let work = move || run_model(load, &report, &queue);
        let running = threads::run(work).map_err(Error::Thread)?;
        // Should loading fail, dropping this waits for the thread.
        let engine = Self {
            jobs: Some(jobs),
            running,
        };
        for report in reports {
            match report {
                Report::Progress(step) => progress(step),
                Report::Ready(loaded) => return loaded.map(|info| (engine, info)),
            }
        }
        Err(Error::EngineEnded)
    }

    /// Puts a request at the end of the queue.
    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        let jobs = self.jobs.as_ref().ok_or(Error::EngineEnded)?;
        jobs.send(job).map_err(|_| Error::EngineEnded)
    }

    /// Whether requests are still served.
    pub(crate) fn is_alive(&self) -> bool {
        !self.running.is_over()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Without a sender the thread's loop ends.
        self.jobs = None;
        self.running.wait();
    }
}

/// A model's life, on its thread.
fn run_model<M, P, I, L>(load: L, report: &Sender<Report<P, I>>, queue: &Receiver<Job>)
where
    M: LanguageModel,
    L: FnOnce(&mut dyn FnMut(P)) -> Result<(M, I)>,
{
    let mut progress = |step| {
        // Nobody listens if the caller's own progress function panicked.
        let _ = report.send(Report::Progress(step));
    };
    let (model, ready) = match catching(|| load(&mut progress)) {
        Ok((model, info)) => (Some(model), Ok(info)),
        Err(error) => (None, Err(error)),
    };
    if model.is_none() {
        M::released();
    }
    let _ = report.send(Report::Ready(ready));
    if let Some(mut model) = model {
        while let Ok(job) = queue.recv() {
            serve(&mut model, job);
        }
        drop(model);
        M::released();
    }
}

fn serve<M: LanguageModel>(model: &mut M, job: Job) {
    // A failed send means that the caller has gone; there is nobody to tell.
    match job {
        Job::Generate(job) => {
            let outcome = catching(|| run_generation(model, &job));
            if matches!(outcome, Err(Error::Panicked { .. })) {
                // What the caches hold now is unknown.
                let _ = catching(|| model.drop_caches());
            }
            model.rest();
            let _ = job.events.send(Event::Done(outcome));
        }
        Job::Logits { ids, reply } => {
            let outcome = catching(|| model.logits(&ids));
            if outcome.is_err() {
                // The caches would keep what they took until the next request.
                let _ = catching(|| model.drop_caches());
            }
            model.rest();
            let _ = reply.send(outcome);
        }
    }
}

fn run_generation<M: LanguageModel>(model: &mut M, job: &GenerateJob) -> Result<Generation> {
    let cancelled = || job.cancel.iter().any(CancelToken::is_cancelled);
    if cancelled() {
        // While it waited. What the caches hold stays for who comes next.
        let partial = Generation::nothing(job.plan.prompt.len(), FinishReason::Cancelled).into();
        return Err(Error::Cancelled { partial });
    }
    let outcome = generate(
        model,
        &job.plan,
        Surroundings {
            vocabulary: job.vocabulary.as_deref(),
            cancelled: &cancelled,
            emit: &mut |piece| {
                let _ = job.events.send(Event::Piece(piece));
            },
        },
    );
    let generation = match &outcome {
        Ok(generation) => Some(generation),
        Err(error) => error.partial(),
    };
    if let Some(Generation {
        finish_reason,
        metrics,
        ..
    }) = generation
    {
        tracing::debug!(
            reason = finish_reason.as_str(),
            prompt_tokens = metrics.prompt_tokens,
            generated_tokens = metrics.generated_tokens,
            prefill_tokens_per_second = metrics.prefill_tokens_per_second,
            decode_tokens_per_second = metrics.decode_tokens_per_second,
            "generated"
        );
    }
    outcome
}

/// Runs `work`; a panic in it is an error.
fn catching<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Unwind safety: what a panic may leave half-done are the caches, which are dropped after one.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Error::Panicked {
            message: message(&*panic),
        })
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests;
