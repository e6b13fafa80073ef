//! Ctrl-C: stops the answer under way, and where there is none, the program.
//!
//! A program that is stopped does not wait for its engine: a prompt may take minutes, and MLX does
//! not give up in the middle of one. So it ends at once, without running the native library's
//! destructors under a thread that still computes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use ml_backend::CancelToken;
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The answer that Ctrl-C stops.
static ANSWER: Mutex<Option<CancelToken>> = Mutex::new(None);
/// Whether Ctrl-C leaves the program alone.
static KEEP_RUNNING: AtomicBool = AtomicBool::new(false);

/// Takes Ctrl-C over; to be called once.
pub(crate) fn install() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT]).context("cannot take over Ctrl-C")?;
    std::thread::Builder::new()
        .name("ctrl-c".to_owned())
        .spawn(move || signals.forever().for_each(|_| interrupted()))
        .context("cannot start a thread")?;
    Ok(())
}

fn interrupted() {
    match answer().as_ref() {
        Some(cancel) if !cancel.is_cancelled() => cancel.cancel(),
        _ if KEEP_RUNNING.load(Ordering::Relaxed) => {}
        _ => exit(),
    }
}

/// From now on Ctrl-C stops answers only: a person who talks has another way to leave.
pub(crate) fn keep_running() {
    KEEP_RUNNING.store(true, Ordering::Relaxed);
}

/// Ends the program as one that Ctrl-C stopped.
pub(crate) fn exit() -> ! {
    signal_hook::low_level::exit(INTERRUPTED)
}

/// While this lives, Ctrl-C cancels its token instead of ending the program.
pub(crate) struct Interruptible(CancelToken);

impl Interruptible {
    pub(crate) fn new() -> Self {
        let cancel = CancelToken::new();
        *answer() = Some(cancel.clone());
        Self(cancel)
    }

    pub(crate) fn token(&self) -> CancelToken {
        self.0.clone()
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        *answer() = None;
    }
}

fn answer() -> MutexGuard<'static, Option<CancelToken>> {
    ANSWER.lock().unwrap_or_else(PoisonError::into_inner)
}
