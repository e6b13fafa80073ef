//! What a caller may ask of stages that take several numbers.

use crate::options::check;
use crate::{Error, Options, Result};

/// Makes tokens less probable that would go on with a repetition: DRY, "don't repeat yourself". Of a token that
/// followed the same `length` tokens before as stand at the end now, the logit is lessened by
/// `multiplier * base ^ (length - allowed_length)`, where `length` is at least `allowed_length`.
/// <https://github.com/oobabooga/text-generation-webui/pull/5677>
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dry {
    /// How much a repetition that is just too long costs; above 0.
    pub multiplier: f32,
    /// By what each further token multiplies that; 1 or more, 1.75 unless told.
    pub base: f32,
    /// The longest repetition that costs nothing, and one more; 1 or more, 2 unless told.
    pub allowed_length: usize,
    /// How many of the last tokens, prompt included, it looks at. Unset is all.
    pub context: Option<usize>,
    /// Texts over which no repetition reaches: the last token of each. A line end, `:`, `"` and `*` unless told.
    pub breakers: Vec<String>,
}

impl Dry {
    /// With this multiplier; 0.8 is usual.
    pub fn new(multiplier: f32) -> Self {
        Self {
            multiplier,
            base: 1.75,
            allowed_length: 2,
            context: None,
            breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
        }
    }
}

/// Leaves out the most probable tokens: of those above a threshold only the least probable stays. XTC, "exclude top
/// choices". <https://github.com/oobabooga/text-generation-webui/pull/6335>
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Xtc {
    /// How often it is done, from 0 to 1.
    pub probability: f32,
    /// Which tokens count as top choices: those more probable than this, above 0 and at most 0.5. End-of-sequence
    /// tokens and line ends are never left out.
    pub threshold: f32,
}

impl Xtc {
    /// That often, with a threshold of 0.1.
    pub fn new(probability: f32) -> Self {
        Self {
            probability,
            threshold: 0.1,
        }
    }
}

/// The most alternatives that are told of a token.
pub(crate) const MOST_LOGPROBS: usize = 20;

/// Refuses what no stage can use.
pub(crate) fn check_stages(options: &Options) -> Result<()> {
    let share = |p: f32| (0.0..=1.0).contains(&p);
    check(
        "typical_p",
        options.typical_p,
        |p| share(p) && p > 0.0,
        "above 0 and at most 1",
    )?;
    let xtc = options.xtc;
    check(
        "xtc.probability",
        xtc.map(|xtc| xtc.probability),
        share,
        "from 0 to 1",
    )?;
    let half = |p: f32| p > 0.0 && p <= 0.5;
    check(
        "xtc.threshold",
        xtc.map(|xtc| xtc.threshold),
        half,
        "above 0 and at most 0.5",
    )?;
    let dry = options.dry.as_ref();
    let above_zero = |x: f32| x.is_finite() && x > 0.0;
    check(
        "dry.multiplier",
        dry.map(|dry| dry.multiplier),
        above_zero,
        "above 0",
    )?;
    let base = |x: f32| x.is_finite() && x >= 1.0;
    check("dry.base", dry.map(|dry| dry.base), base, "1 or more")?;
    let count = |n: usize| n > 0;
    check(
        "dry.allowed_length",
        dry.map(|dry| dry.allowed_length),
        count,
        "1 or more",
    )?;
    check(
        "dry.context",
        dry.and_then(|dry| dry.context),
        count,
        "1 or more",
    )?;
    if dry.is_some_and(|dry| dry.breakers.iter().any(String::is_empty)) {
        return Err(Error::InvalidOption {
            name: "dry.breakers",
            value: "an empty text".to_owned(),
            expected: "at least one character",
        });
    }
    let finite = |x: f32| x.is_finite();
    check(
        "presence_penalty",
        options.presence_penalty,
        finite,
        "a finite number",
    )?;
    check(
        "frequency_penalty",
        options.frequency_penalty,
        finite,
        "a finite number",
    )?;
    check(
        "penalty_context",
        options.penalty_context,
        count,
        "1 or more",
    )?;
    for (id, bias) in &options.logit_bias {
        if bias.is_nan() || *bias == f32::INFINITY {
            return Err(Error::InvalidOption {
                name: "logit_bias",
                value: format!("{bias} for token {id}"),
                expected: "a finite number, or negative infinity, which bans the token",
            });
        }
    }
    let few = |n: usize| n <= MOST_LOGPROBS;
    check("logprobs", options.logprobs, few, "20 or fewer")?;
    check(
        "prompt_logprobs",
        options.prompt_logprobs,
        few,
        "20 or fewer",
    )
}
