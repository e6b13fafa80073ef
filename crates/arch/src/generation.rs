//! What `generation_config.json` advises for sampling.

use serde_json::Value;

use crate::fields::Fields;

/// The checkpoint's own advice; each is `None` where the file says nothing, or nothing usable.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerationDefaults {
    /// Whether to draw at random; `false` is greedy, whatever the rest says.
    pub do_sample: Option<bool>,
    /// Sampling temperature, finite and 0 or more.
    pub temperature: Option<f32>,
    /// Only the most probable `top_k` tokens are drawn from, 1 or more.
    pub top_k: Option<usize>,
    /// Only the most probable tokens that together reach this probability are drawn from, in (0, 1].
    pub top_p: Option<f32>,
    /// Only tokens at least this many times as probable as the most probable are drawn from, in [0, 1].
    pub min_p: Option<f32>,
    /// Divides the positive logits of tokens that occurred and multiplies the negative, above 0.
    pub repetition_penalty: Option<f32>,
}

impl GenerationDefaults {
    /// What is out of range could only make every generation fail: it is left out with a warning.
    pub(crate) fn read(f: &Fields<'_>, warnings: &mut Vec<String>) -> Self {
        let mut number = |key: &str, expected: &str, good: fn(f32) -> bool| {
            f.advised(key, expected, warnings, |v| {
                let number = v.as_f64().map(|x| x as f32);
                number.filter(|x| x.is_finite() && good(*x))
            })
        };
        let temperature = number("temperature", "a number, 0 or more", |t| t >= 0.0);
        let top_p = number("top_p", "a number above 0 and at most 1", |p| {
            p > 0.0 && p <= 1.0
        });
        let min_p = number("min_p", "a number from 0 to 1", |p| {
            (0.0..=1.0).contains(&p)
        });
        let repetition_penalty = number("repetition_penalty", "a number above 0", |x| x > 0.0);
        let top_k = f.advised("top_k", "a whole number, 0 or more", warnings, |v| {
            let number = v.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0);
            number.map(|x| x as usize)
        });
        Self {
            do_sample: f.advised("do_sample", "true or false", warnings, Value::as_bool),
            temperature,
            // 0 is all of them, as in transformers.
            top_k: top_k.filter(|k| *k > 0),
            top_p,
            min_p,
            repetition_penalty,
        }
    }
}
