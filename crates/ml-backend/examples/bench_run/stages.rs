//! What is asked between logits and a token.

use clap::ValueEnum;
use ml_backend::{Dry, Options, Xtc};

/// A stage, with usual numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    All,
    Temperature,
    TopK,
    TopP,
    MinP,
    Typical,
    Xtc,
    Repetition,
    Presence,
    Dry,
    Bias,
}

/// Greedy without any.
pub(crate) fn options(stages: &[Stage]) -> Options {
    let mut options = Options::new();
    if stages.is_empty() {
        return options.temperature(0.0);
    }
    options = options.temperature(0.8).seed(1);
    let is_asked = |stage| stages.contains(&stage) || stages.contains(&Stage::All);
    if is_asked(Stage::TopK) {
        options = options.top_k(40);
    }
    if is_asked(Stage::TopP) {
        options = options.top_p(0.95);
    }
    if is_asked(Stage::MinP) {
        options = options.min_p(0.01);
    }
    if is_asked(Stage::Typical) {
        options = options.typical_p(0.95);
    }
    if is_asked(Stage::Xtc) {
        options = options.xtc(Xtc::new(0.5));
    }
    if is_asked(Stage::Repetition) {
        options = options.repetition_penalty(1.1);
    }
    if is_asked(Stage::Presence) {
        options = options.presence_penalty(0.5).frequency_penalty(0.2);
    }
    if is_asked(Stage::Dry) {
        options = options.dry(Dry::new(0.8));
    }
    if is_asked(Stage::Bias) {
        for id in 0..300 {
            options = options.logit_bias(id, -1.0);
        }
    }
    options
}

/// As they are given.
pub(crate) fn names(stages: &[Stage]) -> Vec<String> {
    let values = stages.iter().filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}
