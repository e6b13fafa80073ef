//! Whose turn it is to have CUDA do something.
//!
//! A thread submits in one go what it has, so that it can wait for the thread before it where two
//! kernels must not meet, and so that a process which ends interrupts nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::device::cuda_is_open;
use crate::{cuda, exit};

/// Who submitted last.
static SUBMITTING: Mutex<Option<ThreadId>> = Mutex::new(None);
static ONE_AT_A_TIME: AtomicBool = AtomicBool::new(false);

/// A thread's turn.
pub(crate) type Turn = MutexGuard<'static, Option<ThreadId>>;

/// From now on a thread that submits to the GPU first waits for what another one has submitted.
pub(crate) fn one_thread_at_a_time() {
    ONE_AT_A_TIME.store(true, Ordering::Relaxed);
}

/// This thread's turn to submit; `None` where CUDA is not open. Fails when the GPU does not finish
/// what it has, and when the process ends.
pub(crate) fn to_submit() -> Result<Option<Turn>, i32> {
    if !cuda_is_open() {
        return Ok(None);
    }
    let mut last = SUBMITTING.lock().unwrap_or_else(PoisonError::into_inner);
    if exit::has_begun() {
        drop(last);
        return Err(exit::hold());
    }
    let this = thread::current().id();
    let other = last.replace(this).is_some_and(|last| last != this);
    if other && ONE_AT_A_TIME.load(Ordering::Relaxed) {
        cuda::synchronize()?;
    }
    Ok(Some(last))
}

/// The turn, if it can be had within `time`.
pub(crate) fn within(time: Duration) -> Option<Turn> {
    let begun = Instant::now();
    loop {
        match SUBMITTING.try_lock() {
            Ok(turn) => return Some(turn),
            Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > time => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
