//! How probable the model itself finds tokens.

use kernels::draw::Row;
use serde::Serialize;

/// How probable a token was, and what else might have come: natural logarithms of the model's own probabilities, at a
/// temperature of 1, before any bias, penalty, filter or constraint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenLogprobs {
    /// The token.
    pub id: u32,
    /// Its logarithm of the probability.
    pub logprob: f32,
    /// The most probable tokens of its place, the most probable first; as many as were asked for.
    pub top: Vec<Alternative>,
}

/// A token that might have come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Alternative {
    /// The token.
    pub id: u32,
    /// Its logarithm of the probability.
    pub logprob: f32,
}

/// What a row of logits says, before anybody changes it.
pub(crate) struct Odds {
    log_sum: f64,
    top: Vec<Alternative>,
}

impl Odds {
    /// With so many alternatives.
    pub(crate) fn of(row: &Row<'_>, alternatives: usize) -> Self {
        let log_sum = row.log_sum();
        let alternative = |index: usize| Alternative {
            // An embedding has fewer rows.
            id: index as u32,
            logprob: logprob(row.given(index), log_sum),
        };
        let top = row.largest(alternatives).into_iter().map(alternative);
        let top = top.collect();
        Self { log_sum, top }
    }

    /// Of a token of the row.
    pub(crate) fn of_token(self, row: &Row<'_>, index: usize) -> TokenLogprobs {
        TokenLogprobs {
            id: index as u32,
            logprob: logprob(row.given(index), self.log_sum),
            top: self.top,
        }
    }
}

fn logprob(logit: f32, log_sum: f64) -> f32 {
    (f64::from(logit) - log_sum) as f32
}
