//! The grammars of a model, compiled once each.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use models::tokenizer::Tokenizer;

use super::constraint::Bound;
use super::grammar::Grammar;
use super::tokens::Tokens;
use super::{Before, Form};
use crate::Result;

/// Grammars that are kept: those that were used last.
const KEPT: usize = 32;

/// What a model keeps for structures: nothing until one is asked for.
#[derive(Default)]
pub(crate) struct Structures {
    tokens: OnceLock<Arc<Tokens>>,
    /// The one that was used last is the last.
    grammars: Mutex<Vec<(Form, Arc<Grammar>)>>,
}

impl Structures {
    /// Holds answers to this form from behind what may come before it: those of a model whose
    /// logits are `rows` a position. `ends` are the ids that end an answer; the first call's count.
    ///
    /// # Errors
    /// A form that cannot be held to.
    pub(crate) fn bind(
        &self,
        form: &Form,
        before: Before,
        tokenizer: &Tokenizer,
        rows: usize,
        ends: &[u32],
    ) -> Result<Bound> {
        let grammar = self.grammar(form, tokenizer, rows, ends)?;
        Ok(Bound::new(grammar, before))
    }

    pub(super) fn grammar(
        &self,
        form: &Form,
        tokenizer: &Tokenizer,
        rows: usize,
        ends: &[u32],
    ) -> Result<Arc<Grammar>> {
        if let Some(grammar) = self.kept(form) {
            return Ok(grammar);
        }
        let tokens = match self.tokens.get() {
            Some(tokens) => tokens,
            None => {
                let tokens = Arc::new(Tokens::new(tokenizer, rows, ends)?);
                self.tokens.get_or_init(|| tokens)
            }
        };
        let grammar = Arc::new(Grammar::new(form, tokens)?);
        let mut grammars = self.lock();
        grammars.push((form.clone(), Arc::clone(&grammar)));
        if grammars.len() > KEPT {
            grammars.remove(0);
        }
        Ok(grammar)
    }

    fn kept(&self, form: &Form) -> Option<Arc<Grammar>> {
        let mut grammars = self.lock();
        let at = grammars.iter().position(|(kept, _)| kept == form)?;
        let one = grammars.remove(at);
        let grammar = Arc::clone(&one.1);
        grammars.push(one);
        Some(grammar)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Form, Arc<Grammar>)>> {
        self.grammars
            .lock()
            .unwrap_or_else(|held| held.into_inner())
    }
}
