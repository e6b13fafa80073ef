//! The end of a process that has used MLX.
//!
//! `exit` takes MLX's static objects and CUDA down on the thread that calls it, while other threads may
//! be using them: one with an answer half given, or MLX's workers, which free what a step used and,
//! when the thread that they belong to has ended, themselves. So before anything is taken down,
//! nobody may submit any more, what was submitted is finished, and the workers get a moment for what
//! they still have to do; MLX offers no way to wait for them.

use std::ffi::c_int;
use std::sync::{Once, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::cuda::synchronize;
use crate::device::cuda_is_open;
use crate::turn;

/// For somebody who is submitting to a GPU; then the process ends all the same.
const FOR_A_TURN: Duration = Duration::from_secs(1);
/// For whoever has a processor compute: a piece of a long prompt.
const FOR_A_STEP: Duration = Duration::from_secs(5);
/// For MLX's workers, which need microseconds where nothing else wants their core.
const FOR_WORKERS: Duration = Duration::from_millis(50);
/// By then the process is gone. Not for ever, since somebody may be waiting for a thread that is held.
const HELD: Duration = Duration::from_secs(10);

/// The thread that ends the process.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// Whoever has MLX do something, and against all of them the thread that ends the process.
static USING: RwLock<()> = RwLock::new(());

unsafe extern "C" {
    /// C's: functions are called in the reverse of the order in which they were registered.
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Prepares for the end. Called when MLX is loaded, and once more when it has computed something: what was
/// registered until then runs later.
pub(crate) fn prepare(once: &Once) {
    // SAFETY: `end` may be called at any time and does not unwind. That it cannot be registered is
    // as harmless as not to try.
    once.call_once(|| _ = unsafe { atexit(end) });
}

/// That this thread has MLX do something, for as long as the guard lives. It fails, with a status that is a
/// failure, when the process ends.
pub(crate) fn using() -> Result<RwLockReadGuard<'static, ()>, i32> {
    let using = USING.read().unwrap_or_else(PoisonError::into_inner);
    if has_begun() {
        drop(using);
        return Err(hold());
    }
    Ok(using)
}

/// Whether the process is ending.
pub(crate) fn has_begun() -> bool {
    ENDING.get().is_some()
}

/// For whoever would submit: waits for the end, unless it is this thread that it waits for. Gives a
/// status that is a failure.
pub(crate) fn hold() -> i32 {
    if ENDING.get() != Some(&thread::current().id()) {
        thread::sleep(HELD);
    }
    1
}

extern "C" fn end() {
    if ENDING.set(thread::current().id()).is_err() {
        return;
    }
    // Whoever comes later sees that the process ends; whoever has the turn now has submitted then.
    if cuda_is_open() {
        drop(turn::within(FOR_A_TURN));
        // What went wrong on the GPU is nobody's concern any more.
        let _ = synchronize();
    } else {
        let begun = Instant::now();
        while USING.try_write().is_err() && begun.elapsed() < FOR_A_STEP {
            thread::sleep(Duration::from_millis(1));
        }
    }
    thread::sleep(FOR_WORKERS);
}
