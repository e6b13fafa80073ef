//! What threads keep for their next call.
//!
//! Each thread has a list of its own, so that none waits for another. But a thread that sleeps cannot
//! empty its list, and MLX never ends the worker of a stream; so the lists are known to the process too,
//! and anyone may take out of all of them what has become too much. A list's lock is free but then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The lists of all threads that live.
pub(crate) struct Lists<T>(Mutex<Vec<Weak<Mutex<Vec<T>>>>>);

/// One thread's, which frees it when it ends.
pub(crate) struct List<T>(Arc<Mutex<Vec<T>>>);

impl<T> Lists<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// A list for this thread.
    pub(crate) fn join(&self) -> List<T> {
        let list = Arc::new(Mutex::new(Vec::new()));
        let mut all = lock(&self.0);
        all.retain(|list| list.strong_count() > 0);
        all.push(Arc::downgrade(&list));
        List(list)
    }

    /// Keeps in each list what `keeps` says of it. The rest is dropped here.
    pub(crate) fn retain(&self, keeps: impl Fn(&T) -> bool) {
        let lists: Vec<_> = lock(&self.0).iter().filter_map(Weak::upgrade).collect();
        for list in lists {
            // Freed behind the lock's back: its thread may want it now.
            let dropped: Vec<T> = lock(&list).extract_if(.., |item| !keeps(item)).collect();
            drop(dropped);
        }
    }
}

impl<T> List<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        lock(&self.0)
    }
}

/// Nothing that may panic is done while a lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
