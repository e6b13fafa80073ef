//! How a task that waits for an answer hears that there is something: by its waker, and not by asking again.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

type Shared = Arc<Mutex<Option<Waker>>>;

/// The end of whoever has something to tell. It rings once more when it goes.
pub(crate) struct Bell(Shared);

/// The end of whoever waits.
pub(crate) struct Listener(Shared);

pub(crate) fn bell() -> (Bell, Listener) {
    let shared = Shared::default();
    (Bell(Arc::clone(&shared)), Listener(shared))
}

impl Bell {
    /// To be called when what is told can be had.
    pub(crate) fn ring(&self) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}

impl Listener {
    /// Has `waker` woken at the next ring. What was told before is to be looked for after this.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(same) if same.will_wake(waker) => {}
            other => *other = Some(waker.clone()),
        }
    }
}
