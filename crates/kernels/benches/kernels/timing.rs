//! Times of many short calls.

use std::time::{Duration, Instant};

/// The times of calls, in seconds.
#[derive(Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn add(&mut self, call: impl FnOnce()) {
        let begun = Instant::now();
        call();
        self.0.push(begun.elapsed().as_secs_f64());
    }

    /// Calls for about `time`, at least five times.
    pub(crate) fn of(time: Duration, mut call: impl FnMut()) -> Self {
        let mut times = Self::default();
        let begun = Instant::now();
        while times.0.len() < 5 || begun.elapsed() < time {
            times.add(&mut call);
        }
        times
    }

    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[(sorted.len() - 1) * percent / 100]
    }

    /// `amount` a nanosecond, as the median and the tenth percentile of times give it.
    pub(crate) fn rates(&self, amount: f64) -> (f64, f64) {
        (
            amount / self.percentile(50) / 1e9,
            amount / self.percentile(10) / 1e9,
        )
    }
}
