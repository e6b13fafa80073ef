//! A CPU that passes for an Apple GPU, for tests.
//!
//! What is decided above MLX by the kind of the device (which operations, how far ahead, how much
//! memory) is decided as on Metal, and MLX computes it on the processor. So a machine that is no Mac
//! tests everything of the Metal path but Metal.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The machine that is played.
#[derive(Clone, Copy, Debug)]
pub struct Mac {
    /// Its RAM.
    pub memory_bytes: u64,
    /// What Metal recommends to stay below.
    pub recommended_working_set: u64,
}

static PLAYED: Mutex<Option<Mac>> = Mutex::new(None);
static WIRED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ON_THIS_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// From now on opening Metal opens a CPU that passes for the GPU of `mac`; `None` ends it for the
/// threads that open a device later.
pub fn play(mac: Option<Mac>) {
    *PLAYED.lock().unwrap_or_else(PoisonError::into_inner) = mac;
}

/// What is played.
pub(super) fn mac() -> Option<Mac> {
    *PLAYED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says whether this thread's device is played.
pub(super) fn set_on_this_thread(played: bool) {
    ON_THIS_THREAD.set(played);
}

/// Whether this thread's device is played.
pub(crate) fn is_on_this_thread() -> bool {
    ON_THIS_THREAD.get()
}

/// The wired limit that was set last.
pub fn wired_limit() -> usize {
    WIRED.load(Ordering::SeqCst)
}

/// Sets it; gives the one there was.
pub(crate) fn set_wired_limit(bytes: usize) -> usize {
    WIRED.swap(bytes, Ordering::SeqCst)
}
