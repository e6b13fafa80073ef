//! Whose turn it is to have CUDA do something.
//!
//! MLX records a product as a captured CUDA graph. While one thread captures, another that has the
//! driver load a kernel for the first time, make a stream or take down a library's handle breaks
//! the capture, and MLX then ends the process. So on CUDA threads take turns in whatever may do so,
//! and a thread that ends does it in its turn.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::cuda::{self, exit};
use crate::device::cuda_is_open;

/// Who submitted last.
static SUBMITTING: Mutex<Option<ThreadId>> = Mutex::new(None);
static ONE_AT_A_TIME: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The turn in which this thread ends.
    static LAST: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// A thread's turn.
pub(crate) type Turn = MutexGuard<'static, Option<ThreadId>>;

/// From now on a thread that submits to the GPU first waits for what another one has submitted.
pub(crate) fn one_thread_at_a_time() {
    ONE_AT_A_TIME.store(true, Ordering::Relaxed);
}

/// While this is held no thread records anything on CUDA: for calls of the driver's outside of an
/// evaluation, which would break what another one records. `None` where CUDA is not open.
pub(crate) fn undisturbed() -> Option<Turn> {
    cuda_is_open().then(next)
}

/// This thread's turn to submit, where turns are taken. Fails when the GPU does not finish what it
/// has, and when the process ends.
pub(crate) fn to_submit() -> Result<Option<Turn>, i32> {
    let Some(mut last) = undisturbed() else {
        return Ok(None);
    };
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
    give_back();
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

/// Called before MLX does anything on a thread that it keeps until the thread ends: what a thread
/// has of its own goes in the reverse of the order in which it was made, so that the last turn goes
/// after all that MLX has.
pub(crate) fn prepare() {
    // Only once the thread ends can it be gone.
    let _ = LAST.try_with(|_| ());
}

/// Keeps the turn until this thread has ended, or takes its next one.
pub(crate) fn leave() {
    if let Some(turn) = undisturbed() {
        keep(turn);
    }
}

fn keep(turn: Turn) {
    // On a thread that is ending already it goes at once.
    let _ = LAST.try_with(|last| last.replace(Some(turn)));
}

fn next() -> Turn {
    give_back();
    SUBMITTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives up the turn that [`leave`] kept: this thread goes on after all.
fn give_back() {
    let _ = LAST.try_with(RefCell::take);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const IN_THE_END: Duration = Duration::from_secs(10);

    /// Made after the last turn, as what MLX has is, and sees whether the turn is still kept when it goes.
    struct Later(std::sync::mpsc::Sender<bool>);

    impl Drop for Later {
        fn drop(&mut self) {
            let _ = self.0.send(SUBMITTING.try_lock().is_err());
        }
    }

    thread_local! {
        static LATER: RefCell<Option<Later>> = const { RefCell::new(None) };
    }

    #[test]
    fn a_thread_that_leaves_keeps_its_turn_until_it_has_ended() {
        let (kept, is_kept) = channel();
        let (end, ends) = channel::<()>();
        let (gone, was_kept) = channel();
        let thread = thread::spawn(move || {
            prepare();
            LATER.set(Some(Later(gone)));
            keep(next());
            kept.send(()).unwrap();
            let _ = ends.recv();
        });
        is_kept.recv().unwrap();
        assert!(within(SOON).is_none());
        drop(end);
        thread.join().unwrap();
        assert!(was_kept.recv().unwrap());
        assert!(within(IN_THE_END).is_some());

        // One that goes on after all does not wait for itself.
        keep(next());
        drop(next());
        keep(next());
        assert!(within(IN_THE_END).is_some());
        thread::spawn(|| assert!(within(IN_THE_END).is_some()))
            .join()
            .unwrap();
    }
}
