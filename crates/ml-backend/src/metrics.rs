//! What a generation gives back, and the figures of its run.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::TokenLogprobs;

/// Some of a generation's text, as a stream hands it out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Piece {
    /// Whole characters, never empty; where there is no tokenizer, always empty.
    pub text: String,
    /// The tokens that were generated since the previous piece.
    pub token_ids: Vec<u32>,
    /// How probable each of these was, where [`Options::logprobs`](crate::Options::logprobs) asks for it.
    pub logprobs: Vec<TokenLogprobs>,
}

/// A finished or broken-off generation.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Generation {
    /// The text, without the stop text; equals the streamed pieces put together. Empty where the
    /// model directory has no tokenizer.
    pub text: String,
    /// The generated tokens, without the end-of-sequence token that stopped it.
    pub token_ids: Vec<u32>,
    /// How probable each of these was, where [`Options::logprobs`](crate::Options::logprobs) asks for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprobs>,
    /// How probable the end-of-sequence token was that stopped it, where
    /// [`Options::logprobs`](crate::Options::logprobs) asks for it and there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_logprobs: Option<TokenLogprobs>,
    /// How probable each token of the prompt but the first was, where
    /// [`Options::prompt_logprobs`](crate::Options::prompt_logprobs) asks for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompt_logprobs: Vec<TokenLogprobs>,
    /// Why there is no more.
    pub finish_reason: FinishReason,
    /// Counts, times and memory.
    pub metrics: Metrics,
}

impl Generation {
    /// One that ended before its first token.
    pub(crate) fn nothing(prompt_tokens: usize, finish_reason: FinishReason) -> Self {
        let metrics = Metrics {
            prompt_tokens,
            ..Metrics::default()
        };
        Self {
            text: String::new(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            end_logprobs: None,
            prompt_logprobs: Vec::new(),
            finish_reason,
            metrics,
        }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model said so, with an end-of-sequence token.
    Stop,
    /// The same, after calls of tools: of an [`Answer`](crate::Answer).
    ToolCalls,
    /// The text reached one of [`Options::stop`](crate::Options::stop).
    StopText,
    /// [`Options::max_tokens`](crate::Options::max_tokens) tokens are there.
    Length,
    /// The model's context is full.
    Context,
    /// [`Options::cancel`](crate::Options::cancel) was used, or the stream was dropped.
    Cancelled,
    /// The caller's callback failed.
    Callback,
    /// The model, MLX or the tokenizer failed.
    Failed,
}

impl FinishReason {
    /// The name that JSON has for it, such as `stop` or `length`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::StopText => "stop_text",
            Self::Length => "length",
            Self::Context => "context",
            Self::Cancelled => "cancelled",
            Self::Callback => "callback",
            Self::Failed => "failed",
        }
    }
}

/// The figures of one generation. In JSON, times are seconds.
///
/// The clock starts when the engine takes the request up: the time before that is `queue_time`. Of requests
/// that are served at the same time each has its own times; memory is that of all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, the first that need not be read, since others had read them
    /// ([`prefix_cache`](crate::MlxBackendBuilder::prefix_cache),
    /// [`Options::reuse_prefix`](crate::Options::reuse_prefix)): what chat APIs call cached tokens.
    pub reused_tokens: usize,
    /// Tokens generated, the end-of-sequence token not counted.
    pub generated_tokens: usize,
    /// Until the first token was known on the host; `None` if there was none.
    #[serde(rename = "time_to_first_token_s", serialize_with = "optional_seconds")]
    pub time_to_first_token: Option<Duration>,
    /// Prompt tokens that were not reused over `time_to_first_token`, a second.
    pub prefill_tokens_per_second: Option<f64>,
    /// Tokens after the first over the time they took, a second; `None` if there was no second.
    pub decode_tokens_per_second: Option<f64>,
    /// The most memory that MLX held at one time during the run, in bytes.
    pub peak_memory_bytes: u64,
    /// How long it waited before it was taken up.
    #[serde(rename = "queue_time_s", serialize_with = "seconds")]
    pub queue_time: Duration,
    /// How often its caches were given up for those of requests before it, and filled again later.
    pub put_aside: usize,
    /// From the start to the end of the run.
    #[serde(rename = "total_time_s", serialize_with = "seconds")]
    pub total_time: Duration,
}

impl Metrics {
    pub(crate) fn new(counts: Counts, times: &Times) -> Self {
        let new = counts.prompt - counts.reused;
        let decode = times.first.map(|first| times.last.saturating_sub(first));
        Self {
            prompt_tokens: counts.prompt,
            reused_tokens: counts.reused,
            generated_tokens: counts.generated,
            time_to_first_token: times.first,
            prefill_tokens_per_second: times.first.and_then(|first| rate(new, first)),
            decode_tokens_per_second: decode
                .and_then(|time| rate(counts.steps.saturating_sub(1), time)),
            peak_memory_bytes: 0,
            queue_time: Duration::ZERO,
            put_aside: 0,
            total_time: times.total,
        }
    }
}

/// Tokens of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// All of the prompt.
    pub(crate) prompt: usize,
    /// Of those, not run again.
    pub(crate) reused: usize,
    /// Handed out.
    pub(crate) generated: usize,
    /// Read, one that ended the generation included: it took its time too.
    pub(crate) steps: usize,
}

/// Moments of a run, measured from its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// The first token was read.
    pub(crate) first: Option<Duration>,
    /// The last token was read.
    pub(crate) last: Duration,
    /// All was done.
    pub(crate) total: Duration,
}

fn rate(count: usize, time: Duration) -> Option<f64> {
    (count > 0 && !time.is_zero()).then(|| count as f64 / time.as_secs_f64())
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn optional_seconds<S: Serializer>(time: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(prompt: usize, generated: usize, steps: usize) -> Counts {
        Counts {
            prompt,
            reused: 0,
            generated,
            steps,
        }
    }

    #[test]
    fn rates_are_tokens_over_the_time_they_took() {
        let times = Times {
            first: Some(Duration::from_millis(500)),
            last: Duration::from_millis(2500),
            total: Duration::from_millis(2600),
        };
        let metrics = Metrics::new(counts(100, 20, 21), &times);
        assert_eq!(metrics.prefill_tokens_per_second, Some(200.0));
        assert_eq!(metrics.decode_tokens_per_second, Some(10.0));
    }

    #[test]
    fn a_rate_that_nobody_measured_is_null_and_not_infinite() {
        let first = Some(Duration::from_millis(4));
        let times = Times {
            first,
            last: Duration::from_millis(4),
            total: Duration::ZERO,
        };
        let one = serde_json::to_value(Metrics::new(counts(3, 1, 1), &times)).unwrap();
        assert!(one["decode_tokens_per_second"].is_null());
        assert_eq!(one["time_to_first_token_s"], 0.004);
        let none = serde_json::to_value(Metrics::new(counts(3, 0, 0), &Times::default())).unwrap();
        assert!(none["time_to_first_token_s"].is_null());
        assert!(none["prefill_tokens_per_second"].is_null());
    }

    #[test]
    fn a_finish_reason_has_one_name() {
        use FinishReason::*;
        for reason in [
            Stop, ToolCalls, StopText, Length, Context, Cancelled, Callback, Failed,
        ] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
