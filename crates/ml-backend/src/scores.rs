//! The probabilities of a prompt's tokens, while the prompt is read.
//!
//! The pass gives hidden states instead of logits, and a few rows of them at a time go through the head, for which
//! there is room whatever the vocabulary. The caches hold what they hold without this.

use kernels::graph;
use mlx_core::Array;
use models::Model;

use crate::logprobs::Odds;
use crate::{Result, TokenLogprobs};

/// Rows that go through the head at once.
const ROWS: i32 = 32;

/// How probable the tokens of a prompt are, as far as it has been read.
#[derive(Clone)]
pub(crate) struct Scores {
    prompt: Vec<u32>,
    alternatives: usize,
    /// Positions that were read.
    read: usize,
    found: Vec<TokenLogprobs>,
}

impl Scores {
    pub(crate) fn new(prompt: &[u32], alternatives: usize) -> Self {
        Self {
            prompt: prompt.to_vec(),
            alternatives,
            read: 0,
            found: Vec::new(),
        }
    }

    /// Whether not all of them are known.
    pub(crate) fn wants_more(&self) -> bool {
        self.found.len() + 1 < self.prompt.len()
    }

    /// The prompt is read from its beginning again, unless all is known.
    pub(crate) fn begin_again(&mut self) {
        if self.wants_more() {
            self.read = 0;
            self.found.clear();
        }
    }

    /// Looks at the next positions, of which these are the hidden states `[L, hidden]`. Gives the logits of the last
    /// one, `[1, vocabulary]`.
    pub(crate) fn add(&mut self, model: &Model, hidden: &Array) -> Result<Array> {
        let (rows, width) = (hidden.dim(0), hidden.dim(1));
        let mut last = None;
        let mut from = 0;
        while from < rows {
            // The last one is by itself, as it is where nobody asks for the others.
            let to = match rows - 1 - from {
                0 => rows,
                left => from + left.min(ROWS),
            };
            let logits = model.through_head(&hidden.slice(&[from, 0], &[to, width])?)?;
            for row in 0..to - from {
                // The token behind this position, if there is one.
                let at = self.read + (from + row) as usize + 1;
                if let Some(&id) = self.prompt.get(at) {
                    let logits = logits.slice(&[row, 0], &[row + 1, logits.dim(1)])?;
                    let alternatives = self.alternatives;
                    let found = graph::on_host(&logits, |row| {
                        Odds::of(&row, alternatives).of_token(&row, id as usize)
                    })?;
                    self.found.push(found);
                }
            }
            last = Some(logits);
            from = to;
        }
        self.read += rows as usize;
        last.ok_or(crate::Error::EmptyPrompt)
    }

    pub(crate) fn finish(self) -> Vec<TokenLogprobs> {
        self.found
    }
}
