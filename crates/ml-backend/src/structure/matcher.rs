//! One answer's way through a grammar: which tokens may come, and which came.

use std::sync::Arc;

use super::grammar::Grammar;
use super::numbers::Numbers;
use crate::{Error, Result};

/// Where an answer is in its grammar.
pub(super) struct Matcher {
    grammar: Arc<Grammar>,
    inner: llguidance::Matcher,
    /// Of a JSON text.
    numbers: Option<Numbers>,
    mask: Vec<u32>,
}

impl Matcher {
    /// At the start of an answer.
    pub(super) fn new(grammar: Arc<Grammar>) -> Self {
        Self {
            inner: grammar.begin(),
            numbers: grammar.is_json.then(Numbers::default),
            grammar,
            mask: Vec::new(),
        }
    }

    /// The tokens that may come next, a bit each, 32 to a word from the lowest on; at least one. Ids that end an
    /// answer are among them where it may end.
    ///
    /// # Errors
    /// A grammar that became too large on this answer.
    #[cfg(test)]
    pub(super) fn mask(&mut self) -> Result<&[u32]> {
        self.make_mask()?;
        Ok(self.allowed())
    }

    /// [`mask`](Self::mask), which [`allowed`](Self::allowed) then gives.
    pub(super) fn make_mask(&mut self) -> Result<()> {
        let allowed = self.inner.compute_mask_or_eos();
        let allowed = allowed.map_err(|error| self.failed(&error.to_string()))?;
        let words = allowed.len().div_ceil(32);
        let allowed = &allowed.as_slice()[..words];
        self.mask.clear();
        self.mask.extend_from_slice(allowed);
        if let Some(numbers) = self.numbers {
            let tokens = &self.grammar.tokens;
            let near = match numbers.is_in_number() {
                true => &tokens.numeric[..],
                false => &[],
            };
            for &id in near.iter().chain(&tokens.heavy) {
                let (word, bit) = (id as usize / 32, 1 << (id % 32));
                if self.mask[word] & bit != 0 && !numbers.allow(tokens.bytes(id)) {
                    self.mask[word] &= !bit;
                }
            }
            // The schema's own constants may be longer.
            if self.mask.iter().all(|&word| word == 0) {
                self.mask.copy_from_slice(allowed);
            }
        }
        Ok(())
    }

    /// The mask that was made last.
    pub(super) fn allowed(&self) -> &[u32] {
        &self.mask
    }

    /// Whether a token is in it.
    pub(super) fn allows(&self, id: u32) -> bool {
        let word = self.mask.get(id as usize / 32);
        word.is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// Goes on with a token; true where nothing can follow it.
    ///
    /// # Errors
    /// A token that may not come here, and a grammar that became too large on this answer.
    pub(super) fn accept(&mut self, id: u32) -> Result<bool> {
        let accepted = self.inner.consume_token(id);
        accepted.map_err(|error| self.failed(&error.to_string()))?;
        if let Some(numbers) = &mut self.numbers {
            for &byte in self.grammar.tokens.bytes(id) {
                let _ = numbers.push(byte);
            }
        }
        Ok(self.inner.is_stopped())
    }

    /// Whether the answer may end here.
    #[cfg(test)]
    pub(super) fn may_end(&mut self) -> bool {
        self.inner.is_accepting().unwrap_or(false)
    }

    fn failed(&self, message: &str) -> Error {
        let line = message.lines().next().unwrap_or_default().trim();
        Error::Structure {
            kind: self.grammar.kind,
            problem: format!("the answer cannot go on: {line}"),
        }
    }
}
