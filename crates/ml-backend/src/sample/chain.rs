//! The stages between logits and a token, on the processor.
//!
//! They have one order. Penalties and biases come first, then processors of the caller's own, then what a constraint
//! allows; the filters look at the probabilities of what that leaves, before the temperature, as mlx-lm's do; the
//! temperature is last.
//!
//! Where the model runs on the processor too, a chain runs as a node of MLX's graph, and step n+1 may be submitted
//! before token n is drawn: when its turn comes, the chain has seen that token. Elsewhere it runs when the logits have
//! come to the host, see [`Token::later`](crate::token::Token::later).

use std::collections::VecDeque;

use kernels::draw::{Filters, Row};

use super::random::uniform;
use super::{Accepted, Constraint, Sampling};
use crate::scheduler::catching;
use crate::{Error, Result};

/// A [`Sampling`] under way.
pub(crate) struct Chain {
    sampling: Sampling,
    constraint: Option<Box<dyn Constraint>>,
    /// Prompt and answer, where somebody looks back at them.
    ids: Vec<u32>,
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
    /// There is none, for this reason.
    pub(crate) failed: Option<Error>,
}

impl Chain {
    /// `prompt` is what penalties and processors see before the answer.
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32]) -> Result<Self> {
        let constraint = match &sampling.constraint {
            Some(constrain) => Some(constrain.start()?),
            None => None,
        };
        let ids = match sampling.looks_back() {
            true => prompt.to_vec(),
            false => Vec::new(),
        };
        Ok(Self {
            sampling: sampling.clone(),
            constraint,
            ids,
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
            Err(error) => {
                let failed = Some(error);
                (None, Outcome { ends: true, failed })
            }
        };
        self.is_over = outcome.ends;
        if self.sampling.tells() {
            self.outcomes.push_back(outcome);
        }
        id
    }

    /// There is no row to draw from.
    pub(crate) fn fail(&mut self, error: Error) {
        let failed = Some(error);
        self.outcomes.push_back(Outcome { ends: true, failed });
        self.is_over = true;
    }

    /// Of the oldest token whose outcome was not asked for.
    pub(crate) fn outcome(&mut self) -> Outcome {
        self.outcomes.pop_front().unwrap_or_default()
    }

    fn pick(&mut self, row: &mut Row<'_>) -> Result<(usize, Outcome)> {
        self.penalize(row);
        self.process(row)?;
        if let Some(constraint) = &mut self.constraint
            && let Some(words) = constraint.mask()?
        {
            row.allow(words);
        }
        let id = self.choose(row).ok_or(Error::NothingAllowed)?;
        // Fewer than an embedding has rows.
        let token = id as u32;
        let mut outcome = Outcome::default();
        if let Some(constraint) = &mut self.constraint {
            outcome.ends = constraint.accept(token)? == Accepted::Ends;
        }
        if self.sampling.looks_back() {
            self.ids.push(token);
        }
        self.drawn += 1;
        Ok((id, outcome))
    }

    /// Divides the positive logits of recent tokens, and multiplies the negative.
    fn penalize(&self, row: &mut Row<'_>) {
        let Some(repetition) = &self.sampling.repetition else {
            return;
        };
        let mut recent = self.ids[self.ids.len().saturating_sub(repetition.context)..].to_vec();
        recent.sort_unstable();
        recent.dedup();
        let penalized = |&id: &u32| {
            let index = id as usize;
            let x = *row.values().get(index)?;
            let penalty = repetition.penalty;
            Some((index, if x < 0.0 { x * penalty } else { x / penalty }))
        };
        let changes: Vec<_> = recent.iter().filter_map(penalized).collect();
        row.set(changes);
    }

    fn process(&self, row: &mut Row<'_>) -> Result<()> {
        for processor in &self.sampling.processors {
            let failed = |source| Error::Processor { source };
            row.rewrite(|logits| processor.run(&self.ids, logits))
                .map_err(failed)?;
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
        let filters = Filters {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            temperature_first: false,
            typical_p: None,
            xtc: None,
        };
        row.draw(&filters, uniform(sampling.seed, self.drawn, 0))
    }
}
