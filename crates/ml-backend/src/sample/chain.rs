//! The stages between logits and a token, on the processor.
//!
//! They have one order. The model's own probabilities are told before anything else. Then come biases; the penalties:
//! repetition, presence and frequency, DRY; processors of the caller's own; what the caller and a constraint allow. The
//! filters look at the probabilities of what that leaves, before the temperature, as mlx-lm's and llama.cpp's do:
//! typical, top-p, min-p, XTC, top-k. The temperature is last. With `temperature_first` it comes before the filters, which
//! are in transformers' order then: top-k, top-p, min-p, typical, XTC.
//!
//! Where the model runs on the processor too, a chain runs as a node of MLX's graph, and step n+1 may be submitted
//! before token n is drawn: when its turn comes, the chain has seen that token. Elsewhere it runs when the logits have
//! come to the host, see [`Token::later`](crate::token::Token::later).

use std::collections::VecDeque;

use kernels::draw::Row;

use super::lookback::Lookback;
use super::random::uniform;
use super::{Accepted, Constraint, Sampling};
use crate::logprobs::Odds;
use crate::scheduler::catching;
use crate::{Error, Result, TokenLogprobs};

/// A [`Sampling`] under way.
pub(crate) struct Chain {
    sampling: Sampling,
    constraint: Option<Box<dyn Constraint>>,
    /// Where somebody looks back.
    lookback: Option<Lookback>,
    /// Tokens that were drawn.
    drawn: u64,
    /// What there is to say of tokens that nobody has read yet.
    outcomes: VecDeque<Outcome>,
    /// Nothing that is drawn now will be looked at.
    is_over: bool,
}

/// What there is to say of a token beside its id.
#[derive(Default)]
pub(crate) struct Outcome {
    /// It is the last one.
    pub(crate) ends: bool,
    /// How probable it was, where that is asked for.
    pub(crate) logprobs: Option<TokenLogprobs>,
    /// There is none, for this reason.
    pub(crate) failed: Option<Error>,
}

impl Outcome {
    fn failed(error: Error) -> Self {
        Self {
            ends: true,
            logprobs: None,
            failed: Some(error),
        }
    }
}

impl Chain {
    /// `prompt` is what penalties and processors see before the answer.
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32]) -> Result<Self> {
        let constraint = match &sampling.constraint {
            Some(constrain) => Some(constrain.start()?),
            None => None,
        };
        let looks_back = sampling.looks_back();
        let lookback = looks_back.then(|| Lookback::new(sampling, prompt));
        Ok(Self {
            sampling: sampling.clone(),
            constraint,
            lookback,
            drawn: 0,
            outcomes: VecDeque::new(),
            is_over: false,
        })
    }

    /// Draws from a row: `None` where it is not of numbers, and where the outcome says why.
    pub(crate) fn draw(&mut self, mut row: Row<'_>) -> Option<usize> {
        if self.is_over || !row.max().is_finite() {
            return None;
        }
        let drawn = catching(|| self.pick(&mut row));
        let (id, outcome) = match drawn {
            Ok((id, outcome)) => (Some(id), outcome),
            Err(error) => (None, Outcome::failed(error)),
        };
        self.is_over = outcome.ends;
        if self.sampling.tells() || outcome.failed.is_some() {
            self.outcomes.push_back(outcome);
        }
        id
    }

    /// There is no row to draw from.
    pub(crate) fn fail(&mut self, error: Error) {
        self.outcomes.push_back(Outcome::failed(error));
        self.is_over = true;
    }

    /// Of the oldest token whose outcome was not asked for.
    pub(crate) fn outcome(&mut self) -> Outcome {
        self.outcomes.pop_front().unwrap_or_default()
    }

    fn pick(&mut self, row: &mut Row<'_>) -> Result<(usize, Outcome)> {
        let alternatives = self.sampling.logprobs;
        let odds = alternatives.map(|alternatives| Odds::of(row, alternatives));
        self.change(row);
        self.process(row)?;
        if let Some(words) = &self.sampling.allowed {
            row.allow(words);
        }
        if let Some(constraint) = &mut self.constraint
            && let Some(words) = constraint.mask()?
        {
            row.allow(words);
        }
        let id = self.choose(row).ok_or(Error::NothingAllowed)?;
        // Fewer than an embedding has rows.
        let token = id as u32;
        let mut outcome = Outcome {
            logprobs: odds.map(|odds| odds.of_token(row, id)),
            ..Outcome::default()
        };
        if let Some(constraint) = &mut self.constraint {
            outcome.ends = constraint.accept(token)? == Accepted::Ends;
        }
        if let Some(lookback) = &mut self.lookback {
            lookback.push(token);
        }
        self.drawn += 1;
        Ok((id, outcome))
    }

    /// Biases and penalties.
    fn change(&self, row: &mut Row<'_>) {
        if self.sampling.biases.is_empty() && self.lookback.is_none() {
            return;
        }
        row.change(|logits| {
            for &(id, bias) in &self.sampling.biases {
                logits.change(id as usize, |x| x + bias);
            }
            if let Some(lookback) = &self.lookback {
                lookback.change(&self.sampling, logits);
            }
        });
    }

    fn process(&self, row: &mut Row<'_>) -> Result<()> {
        let ids = self
            .lookback
            .as_ref()
            .map_or(&[][..], |lookback| &lookback.ids);
        for processor in &self.sampling.processors {
            let failed = |source| Error::Processor { source };
            let run = |logits: &mut [f32]| match catching(|| Ok(processor.run(ids, logits))) {
                Ok(outcome) => outcome,
                Err(panicked) => Err(format!("it panicked: {panicked}").into()),
            };
            row.rewrite(run).map_err(failed)?;
            let max = row.max();
            if max.is_nan() || max == f32::INFINITY {
                return Err(failed(
                    "it left logits that are not numbers (NaN or infinity)".into(),
                ));
            }
        }
        Ok(())
    }

    fn choose(&self, row: &mut Row<'_>) -> Option<usize> {
        if self.sampling.is_greedy() {
            return row.argmax();
        }
        let sampling = &self.sampling;
        let number = |draw| uniform(sampling.seed, self.drawn, draw);
        // One draw says whether, the other which.
        let xtc = sampling
            .xtc
            .filter(|xtc| number(1) < f64::from(xtc.probability));
        row.draw(&sampling.filters(xtc), number(0))
    }
}
