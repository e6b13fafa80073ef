//! From the hidden states of a text's tokens to one vector, in the modes of sentence-transformers' `Pooling`.

use std::path::Path;

use serde_json::Value;

use super::files::{needed, refused};
use crate::Result;

/// How the states are made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// Their mean.
    Mean,
    /// Their sum over the root of their number.
    MeanOfRoot,
    /// Their mean, each weighted with its position from 1 on.
    Weighted,
    /// Of each feature the largest.
    Max,
}

/// The modes by the names of their keys in old files, in the order in which their vectors stand.
const OLD_KEYS: [(&str, Mode); 6] = [
    ("pooling_mode_cls_token", Mode::First),
    ("pooling_mode_max_tokens", Mode::Max),
    ("pooling_mode_mean_tokens", Mode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", Mode::MeanOfRoot),
    ("pooling_mode_weightedmean_tokens", Mode::Weighted),
    ("pooling_mode_lasttoken", Mode::Last),
];

impl Mode {
    /// The mode that a configuration calls so.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "cls" => Self::First,
            "lasttoken" => Self::Last,
            "mean" => Self::Mean,
            "mean_sqrt_len_tokens" => Self::MeanOfRoot,
            "weightedmean" => Self::Weighted,
            "max" => Self::Max,
            _ => return None,
        })
    }
}

/// What a pooling's configuration says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pooling {
    /// Each gives a vector, and they stand one behind the other.
    pub(super) modes: Vec<Mode>,
    /// Whether the tokens of the prompt count.
    pub(super) includes_prompt: bool,
}

impl Pooling {
    /// Of this mode alone.
    pub(super) fn of(mode: Mode) -> Self {
        Self {
            modes: vec![mode],
            includes_prompt: true,
        }
    }

    /// Of `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let config = needed(&path)?;
        let includes_prompt = match config.get("include_prompt") {
            None | Some(Value::Bool(true)) => true,
            Some(Value::Bool(false)) => false,
            Some(other) => {
                let problem = format!("'include_prompt' is {other}, neither true nor false");
                return Err(refused(&path, problem));
            }
        };
        let named = |name: &Value| {
            let mode = name.as_str().and_then(Mode::named);
            mode.ok_or_else(|| {
                let problem = format!(
                    "pooling mode {name} is none of cls, lasttoken, mean, mean_sqrt_len_tokens, weightedmean, max"
                );
                refused(&path, problem)
            })
        };
        let modes: Vec<Mode> = match config.get("pooling_mode") {
            Some(Value::Array(modes)) => modes.iter().map(named).collect::<Result<_>>()?,
            Some(mode) => vec![named(mode)?],
            None => {
                let is_on = |key: &str| config.get(key) == Some(&Value::Bool(true));
                let on = OLD_KEYS.iter().filter(|(key, _)| is_on(key));
                let on: Vec<Mode> = on.map(|(_, mode)| *mode).collect();
                if on.is_empty() { vec![Mode::Mean] } else { on }
            }
        };
        if !(1..=OLD_KEYS.len()).contains(&modes.len()) {
            let problem = format!("has {} pooling modes; there are six", modes.len());
            return Err(refused(&path, problem));
        }
        Ok(Self {
            modes,
            includes_prompt,
        })
    }
}

/// States as they come, a token at a time, for several modes. Sums are in float64, in the order of the tokens.
pub(crate) struct Pool {
    /// Tokens at the beginning that do not count.
    skip: usize,
    parts: Vec<Part>,
    /// Tokens so far.
    count: usize,
}

struct Part {
    mode: Mode,
    value: Vec<f64>,
    /// The sum of the weights.
    weights: f64,
}

impl Pool {
    /// Of texts whose first `skip` tokens do not count.
    pub(crate) fn new(modes: &[Mode], skip: usize) -> Self {
        let part = |mode: &Mode| Part {
            mode: *mode,
            value: Vec::new(),
            weights: 0.0,
        };
        Self {
            skip,
            parts: modes.iter().map(part).collect(),
            count: 0,
        }
    }

    /// The next token's state; all have one length.
    pub(crate) fn add(&mut self, state: &[f32]) {
        let counts = self.count >= self.skip;
        self.count += 1;
        for part in &mut self.parts {
            part.add(state, self.count, counts);
        }
    }

    /// The one vector; nothing of no token.
    pub(crate) fn finish(self) -> Vec<f32> {
        let parts = self.parts.into_iter().flat_map(|part| {
            let share = match part.mode {
                Mode::First | Mode::Last | Mode::Max => 1.0,
                Mode::Mean | Mode::Weighted => part.weights.max(1e-9),
                Mode::MeanOfRoot => part.weights.max(1e-9).sqrt(),
            };
            part.value.into_iter().map(move |x| (x / share) as f32)
        });
        parts.collect()
    }
}

impl Part {
    /// The token that is the `position`th, from 1 on, and whether it counts.
    fn add(&mut self, state: &[f32], position: usize, counts: bool) {
        let is_first = self.value.is_empty();
        if is_first {
            // What a text has of which no token counts: the first token's state where that is asked for.
            self.value = match self.mode {
                Mode::First => state.iter().map(|x| f64::from(*x)).collect(),
                Mode::Max => vec![f64::NEG_INFINITY; state.len()],
                _ => vec![0.0; state.len()],
            };
        }
        if !counts {
            return;
        }
        let weight = match self.mode {
            Mode::Weighted => position as f64,
            _ => 1.0,
        };
        let takes = self.mode != Mode::First || self.weights == 0.0;
        self.weights += weight;
        if !takes {
            return;
        }
        for (value, new) in self.value.iter_mut().zip(state) {
            let new = f64::from(*new);
            match self.mode {
                Mode::First | Mode::Last => *value = new,
                Mode::Max => *value = value.max(new),
                Mode::Mean | Mode::MeanOfRoot | Mode::Weighted => *value += new * weight,
            }
        }
    }
}
