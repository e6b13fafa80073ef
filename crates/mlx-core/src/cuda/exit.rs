//! The end of a process that has used the GPU.
//!
//! `exit` takes MLX's static objects and CUDA down on the thread that calls it, while other threads may
//! be using them: one with an answer half given, or MLX's workers, which free what a step used and,
//! when the thread that they belong to has ended, themselves. So before anything is taken down,
//! nobody may submit any more, the GPU finishes what it has, and the workers get a moment for what
//! they still have to do; MLX offers no way to wait for them.

use std::ffi::c_int;
use std::sync::{Once, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::gpu::synchronize;
use crate::turn;

/// For somebody who is submitting; then the process ends all the same.
const FOR_A_TURN: Duration = Duration::from_secs(1);
/// For MLX's workers, which need microseconds where nothing else wants their core.
const FOR_WORKERS: Duration = Duration::from_millis(50);
/// By then the process is gone. Not for ever, since somebody may be waiting for a thread that is held.
const HELD: Duration = Duration::from_secs(10);

/// The thread that ends the process.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

unsafe extern "C" {
    /// C's: functions are called in the reverse of the order in which they were registered.
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Prepares for the end. Called when MLX is loaded and CUDA set up: what they registered runs later.
pub(crate) fn prepare() {
    static PREPARED: Once = Once::new();
    // SAFETY: `end` may be called at any time and does not unwind. That it cannot be registered is
    // as harmless as not to try.
    PREPARED.call_once(|| _ = unsafe { atexit(end) });
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
    let _ = ENDING.set(thread::current().id());
    // Whoever comes later sees that the process ends; whoever has the turn now has submitted then.
    drop(turn::within(FOR_A_TURN));
    // What went wrong on the GPU is nobody's concern any more.
    let _ = synchronize();
    thread::sleep(FOR_WORKERS);
}
