//! The one thread that a model lives on.
//!
//! An MLX stream belongs to the thread that made it, and an array to its stream. So a model is
//! loaded, run and freed on a thread of its own, and everybody else sends it requests, which a
//! [`Scheduler`] serves, some at the same time. The pieces of an answer travel back through
//! a channel, so a caller's slow callback does not hold up the others' answers. When the model has
//! gone, the thread waits for the next one ([`threads`]).
//!
//! Nothing a caller does can make another one hang: a panic becomes an error of the request that
//! caused it, and if the thread ever ends, the channels say so.

mod bell;
mod texts;
mod threads;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::language_model::LanguageModel;
use crate::metrics::{Generation, Piece};
use crate::request::Request;
use crate::scheduler::{Client, Scheduler, Service, catching};
use crate::text::Vocabulary;
use crate::{CancelToken, Error, Result};
pub(crate) use bell::{Bell, Listener, bell};
pub(crate) use texts::ReadJob;
use texts::Texts;
use threads::Running;

/// Between two looks at what nobody waits for.
const A_MOMENT: Duration = Duration::from_millis(5);

/// A request to the engine.
pub(crate) enum Job {
    /// Answers to one prompt; mostly one.
    Generate(Vec<GenerateJob>),
    Logits {
        ids: Vec<u32>,
        reply: Sender<Result<Vec<f32>>>,
    },
    /// Texts that are read for something else than an answer.
    Read(ReadJob),
}

/// What is done between steps.
enum Aside {
    Logits {
        ids: Vec<u32>,
        reply: Sender<Result<Vec<f32>>>,
    },
    Texts(Texts),
}

pub(crate) struct GenerateJob {
    pub(crate) request: Request,
    pub(crate) vocabulary: Option<Arc<dyn Vocabulary>>,
    /// Either of them ends it: the user's, and the one of the stream that nobody reads any more.
    pub(crate) cancel: [CancelToken; 2],
    pub(crate) events: Sender<Event>,
    /// As long as it waits.
    pub(crate) place: Option<Place>,
    /// When it began to.
    pub(crate) since: Instant,
    /// Rings at each event. Behind `events`, so that it rings when those have ended.
    pub(crate) bell: Bell,
}

/// A place in the queue, free again when this goes.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a generation reports.
pub(crate) enum Event {
    Piece(Piece),
    /// Nothing comes after this.
    Done(Result<Generation>),
}

/// The callers' end of the engine thread. Dropping it waits until the model is freed, unless it was closed.
pub(crate) struct Engine {
    jobs: Option<Sender<Job>>,
    running: Running,
    /// Requests that wait, and how many may.
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    closed: AtomicBool,
}

/// From the thread to whoever started it.
enum Report<P, I> {
    Progress(P),
    Ready(Result<I>),
}

impl Engine {
    /// Has a thread call `load` and then serve its model as that says; at most `most_waiting` may wait. Blocks until it is loaded; `progress` is called on this thread with what
    /// `load` reports.
    pub(crate) fn start<M, P, I, L>(
        load: L,
        most_waiting: usize,
        progress: &mut dyn FnMut(P),
    ) -> Result<(Self, I)>
    where
        M: LanguageModel,
        P: Send + 'static,
        I: Send + 'static,
        L: FnOnce(&mut dyn FnMut(P)) -> Result<(M, Service, I)> + Send + 'static,
    {
        let (jobs, queue) = channel();
        let (report, reports) = channel();
        let work = move || run_model(load, &report, &queue);
        let running = threads::run(work).map_err(Error::Thread)?;
        // Should loading fail, dropping this waits for the thread.
        let engine = Self {
            jobs: Some(jobs),
            running,
            waiting: Arc::default(),
            most_waiting,
            closed: AtomicBool::new(false),
        };
        for report in reports {
            match report {
                Report::Progress(step) => progress(step),
                Report::Ready(loaded) => return loaded.map(|info| (engine, info)),
            }
        }
        Err(Error::EngineEnded)
    }

    /// A place in the queue.
    ///
    /// # Errors
    /// When it is full.
    pub(crate) fn place(&self) -> Result<Place> {
        let place = Place(Arc::clone(&self.waiting));
        match self.waiting.fetch_add(1, Ordering::Relaxed) {
            before if before < self.most_waiting => Ok(place),
            waiting => Err(Error::QueueFull { waiting }),
        }
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// From now on nobody waits for the thread.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
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
        if !self.closed.load(Ordering::Relaxed) {
            self.running.wait();
        }
    }
}

/// A model's life, on its thread.
fn run_model<M, P, I, L>(load: L, report: &Sender<Report<P, I>>, queue: &Receiver<Job>)
where
    M: LanguageModel,
    L: FnOnce(&mut dyn FnMut(P)) -> Result<(M, Service, I)>,
{
    let mut progress = |step| {
        // Nobody listens if the caller's own progress function panicked.
        let _ = report.send(Report::Progress(step));
    };
    let (model, ready) = match catching(|| load(&mut progress)) {
        Ok((model, service, info)) => (Some((model, service)), Ok(info)),
        Err(error) => (None, Err(error)),
    };
    if model.is_none() {
        M::released();
    }
    let _ = report.send(Report::Ready(ready));
    if let Some((mut model, service)) = model {
        serve(&mut model, service, queue);
        drop(model);
        M::released();
    }
}

/// Serves what comes, until nobody can send any more and all is done.
fn serve<M: LanguageModel>(model: &mut M, service: Service, queue: &Receiver<Job>) {
    let mut scheduler = Scheduler::new(service);
    let mut asides: VecDeque<Aside> = VecDeque::new();
    loop {
        let idle = scheduler.is_idle() && asides.is_empty();
        let first = match (idle, model.background()) {
            (true, false) => match queue.recv() {
                Ok(job) => Some(job),
                Err(_) => return,
            },
            (true, true) => match queue.recv_timeout(A_MOMENT) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            },
            (false, _) => None,
        };
        for job in first.into_iter().chain(queue.try_iter()) {
            match job {
                Job::Generate(jobs) => {
                    for (i, job) in jobs.into_iter().enumerate() {
                        accept(&mut scheduler, job, i > 0);
                    }
                }
                Job::Logits { ids, reply } => asides.push_back(Aside::Logits { ids, reply }),
                Job::Read(job) => asides.push_back(Aside::Texts(Texts::new(job))),
            }
        }
        // One at the most between two steps of those that are served.
        if let Some(aside) = asides.pop_front() {
            let alone = scheduler.is_idle();
            // What is not done yet waits behind the others.
            asides.extend(aside.step(model, alone));
            if alone && asides.is_empty() {
                model.rest();
            }
        }
        scheduler.step(model);
    }
}

impl Aside {
    /// Does some of it; the same again, if more is to be done. `alone` is nobody else served.
    fn step<M: LanguageModel>(self, model: &mut M, alone: bool) -> Option<Self> {
        let (ids, reply) = match self {
            Self::Texts(texts) => return texts.step(model, alone).map(Self::Texts),
            Self::Logits { ids, reply } => (ids, reply),
        };
        let outcome = catching(|| model.logits(&ids));
        if outcome.is_err() {
            // Caches would keep what they took until the next request.
            let _ = catching(|| model.drop_caches(None));
        }
        // A failed send means that the caller has gone; there is nobody to tell.
        let _ = reply.send(outcome);
        None
    }
}

fn accept<T>(scheduler: &mut Scheduler<T, Asker>, job: GenerateJob, is_copy: bool) {
    let GenerateJob {
        request,
        vocabulary,
        cancel,
        events,
        place,
        since,
        bell,
    } = job;
    let asker = Asker {
        cancel,
        events,
        place,
        bell,
    };
    match is_copy {
        true => scheduler.add_copy(request, vocabulary, asker, since),
        false => scheduler.add(request, vocabulary, asker, since),
    }
}

/// Whoever sent a request, on the other end of its channel.
struct Asker {
    cancel: [CancelToken; 2],
    events: Sender<Event>,
    place: Option<Place>,
    /// Behind `events`, so that it rings when those have ended.
    bell: Bell,
}

impl Client for Asker {
    fn is_cancelled(&self) -> bool {
        self.cancel.iter().any(CancelToken::is_cancelled)
    }

    fn emit(&mut self, piece: Piece) {
        let _ = self.events.send(Event::Piece(piece));
        self.bell.ring();
    }

    fn taken(&mut self) {
        self.place = None;
    }

    fn done(&mut self, outcome: Result<Generation>) {
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
        let _ = self.events.send(Event::Done(outcome));
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests;
