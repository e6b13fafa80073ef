//! The threads that engines live on, one engine after the other.
//!
//! MLX keeps what it made for a thread, a worker thread of its own among it, until the process ends. A
//! thread for each model that is loaded would leave a worker behind each time; so a thread whose engine
//! has ended waits for the next one. There are as many as engines ever lived at a time.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// As much as a main thread usually has: MLX's graphs are deep.
const STACK_BYTES: usize = 8 << 20;

/// What an engine does from its beginning to its end.
type Work = Box<dyn FnOnce() + Send>;

/// An engine's time on a thread.
struct Stay {
    work: Work,
    over: Arc<Over>,
}

/// Whether a stay is over.
#[derive(Default)]
struct Over {
    flag: Mutex<bool>,
    changed: Condvar,
}

/// Threads that wait for an engine.
static IDLE: Mutex<Vec<Sender<Stay>>> = Mutex::new(Vec::new());

/// Tells when the work that was given to a thread is over.
pub(super) struct Running(Arc<Over>);

impl Running {
    pub(super) fn is_over(&self) -> bool {
        *lock(&self.0.flag)
    }

    /// Waits until it is. The thread may then be had again.
    pub(super) fn wait(&self) {
        let mut over = lock(&self.0.flag);
        while !*over {
            over = (self.0.changed.wait(over)).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs `work` on a thread that waits, or on a new one.
///
/// # Errors
/// Where the system refuses to start one.
pub(super) fn run(work: impl FnOnce() + Send + 'static) -> io::Result<Running> {
    let over = Arc::new(Over::default());
    let mut stay = Stay {
        work: Box::new(work),
        over: Arc::clone(&over),
    };
    // In a statement of its own, so that the lock is free again.
    let mut idle = lock(&IDLE).pop();
    while let Some(thread) = idle {
        match thread.send(stay) {
            Ok(()) => return Ok(Running(over)),
            Err(gone) => stay = gone.0,
        }
        idle = lock(&IDLE).pop();
    }
    let (next, stays) = channel();
    Builder::new()
        .name("ml-engine".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || live(stay, &next, &stays))?;
    Ok(Running(over))
}

fn live(mut stay: Stay, next: &Sender<Stay>, stays: &Receiver<Stay>) {
    loop {
        // Its panics were reported where they happened, but for one of a destructor.
        let _ = catch_unwind(AssertUnwindSafe(stay.work));
        // On CUDA a thread on which something failed does not work as before; see `mlx_core::cuda`.
        let ends = mlx_core::cuda::failures() > 0;
        if !ends {
            // Before anybody is told, who may load the next model at once.
            lock(&IDLE).push(next.clone());
        }
        *lock(&stay.over.flag) = true;
        stay.over.changed.notify_all();
        if ends {
            return;
        }
        match stays.recv() {
            Ok(following) => stay = following,
            Err(_) => return,
        }
    }
}

/// Nothing that may panic is done while a lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
