//! Ctrl-C: stops the answer under way; where there is none, or at the second time, the program.

use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use ml_backend::CancelToken;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// The answer that Ctrl-C stops.
static ANSWER: Mutex<Option<CancelToken>> = Mutex::new(None);

/// Takes Ctrl-C over; to be called once.
pub(crate) fn install() -> anyhow::Result<()> {
    let handler = || match answer().as_ref() {
        Some(cancel) if !cancel.is_cancelled() => cancel.cancel(),
        _ => std::process::exit(INTERRUPTED.into()),
    };
    ctrlc::set_handler(handler).context("cannot take over Ctrl-C")
}

/// The exit code of a program that Ctrl-C stopped.
pub(crate) fn interrupted() -> ExitCode {
    INTERRUPTED.into()
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

fn answer() -> std::sync::MutexGuard<'static, Option<CancelToken>> {
    ANSWER.lock().unwrap_or_else(PoisonError::into_inner)
}
