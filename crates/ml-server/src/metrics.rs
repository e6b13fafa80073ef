//! Figures for Prometheus, under the names that dashboards of llama.cpp's server and of vLLM look for.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

/// What the server has done since it started.
#[derive(Default)]
pub(crate) struct Metrics {
    running: AtomicU64,
    waiting: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    ended: AtomicU64,
    broken_off: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    to_first_token: Histogram,
    whole: Histogram,
}

/// An answer that is under way. It waits until its first piece is there, runs then, and is over when this goes.
pub(crate) struct UnderWay<'a> {
    metrics: &'a Metrics,
    runs: bool,
    /// Tokens that were counted while they came.
    generated: usize,
    since: std::time::Instant,
}

impl UnderWay<'_> {
    /// A piece of it has come, of so many tokens, which count from now on.
    pub(crate) fn piece(&mut self, tokens: usize) {
        self.generated += tokens;
        let tokens = tokens as u64;
        self.metrics
            .generated_tokens
            .fetch_add(tokens, Ordering::Relaxed);
        if !std::mem::replace(&mut self.runs, true) {
            self.metrics.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.running.fetch_add(1, Ordering::Relaxed);
            self.metrics.to_first_token.add(self.since.elapsed());
        }
    }

    /// It came to its end.
    pub(crate) fn ended(&self, figures: &ml_backend::Metrics) {
        let add = |counter: &AtomicU64, number: usize| {
            counter.fetch_add(number as u64, Ordering::Relaxed)
        };
        add(
            &self.metrics.prompt_tokens,
            figures.prompt_tokens - figures.reused_tokens,
        );
        add(&self.metrics.cached_tokens, figures.reused_tokens);
        // Such as the one that ended it, which is no part of a piece.
        let uncounted = figures.generated_tokens.saturating_sub(self.generated);
        add(&self.metrics.generated_tokens, uncounted);
        add(&self.metrics.ended, 1);
        self.metrics.whole.add(self.since.elapsed());
    }

    /// It broke off: its client went away, or it failed.
    pub(crate) fn broke_off(&self) {
        self.metrics.broken_off.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let gauge = match self.runs {
            true => &self.metrics.running,
            false => &self.metrics.waiting,
        };
        gauge.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// An answer that begins now.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            metrics: self,
            runs: false,
            generated: 0,
            since: std::time::Instant::now(),
        }
    }

    /// Counts an answer of HTTP.
    pub(crate) fn answered(&self, status: StatusCode) {
        if status.is_client_error() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if status.is_server_error() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers that run, and those that wait for their first token.
    pub(crate) fn under_way(&self) -> (u64, u64) {
        (
            self.running.load(Ordering::Relaxed),
            self.waiting.load(Ordering::Relaxed),
        )
    }

    /// As Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut out = String::new();
        let (running, waiting) = self.under_way();
        let gauges = [
            (
                "llamacpp:requests_processing",
                "Answers that are being generated.",
                running,
            ),
            (
                "llamacpp:requests_deferred",
                "Requests whose first token is not there yet.",
                waiting,
            ),
            (
                "vllm:num_requests_running",
                "Answers that are being generated.",
                running,
            ),
            (
                "vllm:num_requests_waiting",
                "Requests whose first token is not there yet.",
                waiting,
            ),
        ];
        for (name, help, value) in gauges.into_iter().chain(memory()) {
            family(&mut out, name, "gauge", help);
            let _ = writeln!(out, "{name} {value}");
        }
        let counters = [
            (
                "llamacpp:prompt_tokens_total",
                "Tokens of prompts that were read.",
                get(&self.prompt_tokens),
            ),
            (
                "llamacpp:tokens_predicted_total",
                "Tokens that were generated.",
                get(&self.generated_tokens),
            ),
            (
                "vllm:prompt_tokens_total",
                "Tokens of prompts that were read.",
                get(&self.prompt_tokens),
            ),
            (
                "vllm:prompt_tokens_cached_total",
                "Tokens of prompts that were known.",
                get(&self.cached_tokens),
            ),
            (
                "vllm:generation_tokens_total",
                "Tokens that were generated.",
                get(&self.generated_tokens),
            ),
            (
                "vllm:request_success_total",
                "Answers that came to their end.",
                get(&self.ended),
            ),
            (
                "ml:requests_broken_off_total",
                "Answers that broke off.",
                get(&self.broken_off),
            ),
            (
                "ml:requests_refused_total",
                "Requests answered with a status of 400 to 499.",
                get(&self.refused),
            ),
            (
                "ml:requests_failed_total",
                "Requests answered with a status of 500 or more.",
                get(&self.failed),
            ),
        ];
        for (name, help, value) in counters {
            family(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {value}");
        }
        self.to_first_token.write(
            &mut out,
            "vllm:time_to_first_token_seconds",
            "Until the first piece was there.",
        );
        self.whole.write(
            &mut out,
            "vllm:e2e_request_latency_seconds",
            "Until the answer was there.",
        );
        out
    }
}

/// Bytes that are held, as far as they are known.
fn memory() -> Vec<(&'static str, &'static str, u64)> {
    let mut gauges = Vec::new();
    if let Some(held) = ml_backend::MemoryHeld::now() {
        gauges = vec![
            (
                "ml:memory_models_bytes",
                "Weights and caches of the models that are loaded.",
                held.models,
            ),
            ("ml:memory_active_bytes", "Arrays of MLX.", held.active),
            (
                "ml:memory_cache_bytes",
                "Freed buffers that MLX keeps for reuse.",
                held.cache,
            ),
        ];
    }
    if let Some(bytes) = resident() {
        gauges.push((
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            bytes,
        ));
    }
    gauges
}

/// Bytes of this process in the machine's memory, where the system tells them as Linux does.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Milliseconds up to which a time counts in a bucket.
const BOUNDS: [u64; 14] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
];

/// Times by their length.
#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    fn add(&self, time: Duration) {
        let microseconds = time.as_micros() as u64;
        let fits = BOUNDS.iter().position(|bound| microseconds <= bound * 1000);
        if let Some(bucket) = fits.and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        family(out, name, "histogram", help);
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let seconds = *bound as f64 / 1e3;
            let _ = writeln!(out, "{name}_bucket{{le=\"{seconds}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_runs_and_is_over() {
        let metrics = Metrics::default();
        let mut answer = metrics.begin();
        assert_eq!(metrics.under_way(), (0, 1));
        answer.piece(2);
        answer.piece(1);
        assert_eq!(metrics.under_way(), (1, 0));
        assert!(
            metrics
                .text()
                .contains("llamacpp:tokens_predicted_total 3\n"),
            "tokens count while they come"
        );
        drop(answer);
        assert_eq!(metrics.under_way(), (0, 0));
        assert!(
            metrics
                .text()
                .contains("vllm:time_to_first_token_seconds_count 1\n")
        );
    }

    #[test]
    fn buckets_count_all_times_up_to_their_bound() {
        let times = Histogram::default();
        for milliseconds in [5, 6, 400_000] {
            times.add(Duration::from_millis(milliseconds));
        }
        let mut text = String::new();
        times.write(&mut text, "t", "");
        for line in [
            "t_bucket{le=\"0.005\"} 1",
            "t_bucket{le=\"0.01\"} 2",
            "t_bucket{le=\"300\"} 2",
            "t_bucket{le=\"+Inf\"} 3",
            "t_sum 400.011",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
