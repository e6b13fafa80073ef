//! Stages of sampling beyond the usual ones.

use clap::Args;
use ml_backend::{Dry, Options, Xtc};

use crate::args::{above_zero, at_least_one, not_empty, number, share, top_p};

/// Each of them is none unless it is named.
#[derive(Args, Debug)]
pub(crate) struct StageArgs {
    /// Take X from the logits of tokens that are in the answer already.
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = finite)]
    presence_penalty: Option<f32>,
    /// Take X from them as many times as they are there.
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = finite)]
    frequency_penalty: Option<f32>,
    /// Have these two look at the last N tokens, the prompt's too [default: all of the answer, nothing of the prompt].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    penalty_context: Option<usize>,
    /// Add VALUE to a token's logit; `-inf` bans it. May be given several times.
    #[arg(long, value_name = "ID=VALUE", value_parser = bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Draw only from the tokens whose information is nearest to what is expected and which together reach P, above 0
    /// and at most 1.
    #[arg(long, value_name = "P", value_parser = top_p)]
    typical_p: Option<f32>,
    /// How often all but the least probable of the top choices are left out (XTC), from 0 to 1.
    #[arg(long, value_name = "P", value_parser = share)]
    xtc_probability: Option<f32>,
    /// Which tokens are top choices: those more probable than P, above 0 and at most 0.5 [default: 0.1].
    #[arg(long, value_name = "P", value_parser = half, requires = "xtc_probability")]
    xtc_threshold: Option<f32>,
    /// How much going on with a repetition costs (DRY), such as 0.8.
    #[arg(long, value_name = "X", value_parser = above_zero)]
    dry_multiplier: Option<f32>,
    /// By what each further token of a repetition multiplies that [default: 1.75].
    #[arg(long, value_name = "X", value_parser = one_or_more, requires = "dry_multiplier")]
    dry_base: Option<f32>,
    /// Tokens from which on a repetition costs [default: 2].
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "dry_multiplier")]
    dry_allowed_length: Option<usize>,
    /// Look for repetitions in the last N tokens [default: all].
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "dry_multiplier")]
    dry_context: Option<usize>,
    /// A text over which no repetition reaches; may be given several times [default: a line end, `:`, `"` and `*`].
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = not_empty, requires = "dry_multiplier")]
    dry_breaker: Vec<String>,
    /// Divide by the temperature before the filters, and have these in transformers' order.
    #[arg(long)]
    temperature_first: bool,
}

impl StageArgs {
    pub(crate) fn add_to(&self, options: &mut Options) {
        options.presence_penalty = self.presence_penalty;
        options.frequency_penalty = self.frequency_penalty;
        options.penalty_context = self.penalty_context;
        options.logit_bias = self.logit_bias.iter().copied().collect();
        options.typical_p = self.typical_p;
        options.xtc = self.xtc_probability.map(|probability| {
            let mut xtc = Xtc::new(probability);
            xtc.threshold = self.xtc_threshold.unwrap_or(xtc.threshold);
            xtc
        });
        options.dry = self.dry_multiplier.map(|multiplier| {
            let mut dry = Dry::new(multiplier);
            dry.base = self.dry_base.unwrap_or(dry.base);
            dry.allowed_length = self.dry_allowed_length.unwrap_or(dry.allowed_length);
            dry.context = self.dry_context;
            if !self.dry_breaker.is_empty() {
                dry.breakers.clone_from(&self.dry_breaker);
            }
            dry
        });
        options.temperature_first = self.temperature_first;
    }
}

fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "must be a number")
}

fn half(text: &str) -> Result<f32, String> {
    let good = |p| p > 0.0 && p <= 0.5;
    number(text, good, "must be above 0 and at most 0.5")
}

fn one_or_more(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 1.0, "must be a number, 1 or more")
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text.split_once('=').and_then(|(id, value)| {
        let value: f32 = value.trim().parse().ok()?;
        Some((id.trim().parse().ok()?, value))
    });
    match parts {
        Some((id, value)) if value.is_finite() || value == f32::NEG_INFINITY => Ok((id, value)),
        _ => Err("must be a token id and a number or -inf, such as 42=-1.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_an_id_and_a_number() {
        assert_eq!(bias("42=-1.5"), Ok((42, -1.5)));
        assert_eq!(bias("7 = -inf"), Ok((7, f32::NEG_INFINITY)));
        for bad in ["", "42", "a=1", "-1=2", "3=inf", "3=nan", "3="] {
            assert!(bias(bad).is_err(), "{bad}");
        }
    }
}
