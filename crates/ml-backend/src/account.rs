//! What the models of this process take by their own count: their weights and their caches.
//!
//! MLX's figures are the process's. Whether it holds more than it should can only be told from what
//! all models together should hold.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of all shares.
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// One model's bytes; none any more once it is dropped.
#[derive(Debug)]
pub(crate) struct Share(u64);

impl Share {
    pub(crate) fn new(bytes: u64) -> Self {
        TOTAL.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }

    /// Says how much it is now.
    pub(crate) fn set(&mut self, bytes: u64) {
        // The new one counts before the old one goes, and the sum is never too small.
        *self = Self::new(bytes);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0
    }

    /// Bytes of all models of this process.
    pub(crate) fn total() -> u64 {
        TOTAL.load(Ordering::Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_counts_as_long_as_it_lives() {
        // No other test of this binary has a model.
        let mut one = Share::new(70);
        let other = Share::new(5);
        assert_eq!(Share::total(), 75);
        one.set(80);
        assert_eq!(Share::total(), 85);
        drop(one);
        assert_eq!(Share::total(), 5);
        drop(other);
        assert_eq!(Share::total(), 0);
    }
}
