//! The word that says whether a job is open and how many workers are inside.
//!
//! It holds, from the top: the job's number (32 bits), whether the job is open (1 bit), how many
//! workers are inside (31 bits). A worker enters by one compare-and-swap that fails unless that
//! very job is open, so a worker that comes late can never touch a job that is over.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const JOB: u64 = 1 << 32;

/// Rounds of spinning in [`Gate::close`] before the core is offered to others.
const PATIENCE: u32 = 2_000;

pub(super) struct Gate(AtomicU64);

impl Gate {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Opens the next job. What the caller wrote before is visible to every worker that enters.
    ///
    /// The total order of sequential consistency is what keeps a worker that is about to sleep
    /// from missing it; see `Worker::sleep`.
    pub(super) fn open(&self) {
        // The word is at rest (closed, nobody inside): only the job's number remains.
        let job = self.0.load(Ordering::Relaxed).wrapping_add(JOB);
        self.0.store(job | OPEN, Ordering::SeqCst);
    }

    /// Closes the job and waits until the workers inside have left. What they wrote is visible.
    pub(super) fn close(&self) {
        self.0.fetch_and(!OPEN, Ordering::Relaxed);
        let mut rounds = 0;
        while self.0.load(Ordering::Acquire) & INSIDE != 0 {
            rounds += 1;
            if rounds < PATIENCE {
                spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// The number of the job that is open and is not `last`, if there is one.
    pub(super) fn fresh(&self, last: u32) -> Option<u32> {
        let word = self.0.load(Ordering::Relaxed);
        let job = (word >> 32) as u32;
        (word & OPEN != 0 && job != last).then_some(job)
    }

    /// [`Gate::fresh`] in the total order with [`Gate::open`].
    pub(super) fn fresh_ordered(&self, last: u32) -> Option<u32> {
        let word = self.0.load(Ordering::SeqCst);
        let job = (word >> 32) as u32;
        (word & OPEN != 0 && job != last).then_some(job)
    }

    /// Enters `job`; false when it is over.
    pub(super) fn enter(&self, job: u32) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & OPEN == 0 || (word >> 32) as u32 != job {
                return false;
            }
            match self
                .0
                .compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Leaves the job that was entered.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}
