//! Threads on which masks are made while the model's pass runs.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The most threads: a mask is quick, and the model's own threads want the rest.
const MOST: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// A result that is being made.
pub(super) struct Coming<T>(Receiver<T>);

impl<T: Send + 'static> Coming<T> {
    /// Of `work`, on another thread where there is one.
    pub(super) fn of(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (done, coming) = channel();
        let job: Job = Box::new(move || {
            // Nobody waits for an answer that was given up.
            let _ = done.send(work());
        });
        match queue() {
            Some(queue) => {
                if let Err(unsent) = queue.send(job) {
                    (unsent.0)();
                }
            }
            None => job(),
        }
        Self(coming)
    }

    /// Waits for it; `None` if it panicked.
    pub(super) fn wait(self) -> Option<T> {
        self.0.recv().ok()
    }
}

/// The process's threads, started at the first use and never ended; `None` if there are none to be had.
fn queue() -> Option<&'static Sender<Job>> {
    static QUEUE: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let start = || {
        let (queue, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let threads = (cores / 4).clamp(1, MOST);
        let started = (0..threads).filter(|_| {
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name("ml-masks".to_owned());
            thread.spawn(move || serve(&jobs)).is_ok()
        });
        (started.count() > 0).then_some(queue)
    };
    QUEUE.get_or_init(start).as_ref()
}

fn serve(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else {
            return;
        };
        // Whoever waits for it sees that nothing comes.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}
