//! Texts that are read whole for their hidden states, several as rows of one pass.

use kernels::graph;
use mlx_core::{Array, Dtype};

use super::{Logits, Model};
use crate::cache::Cache;
use crate::{Error, Result, plan};

/// Rows of a pass of several texts. More are no faster, and whoever waits waits longer.
const MOST_ROWS: usize = 512;

/// Ways in which products are made, which round differently.
#[derive(PartialEq)]
enum Way {
    /// As of a token.
    Few,
    /// Of some weights as of a token, of others in tiles.
    Either,
    /// In tiles.
    Tiles,
}

impl Model {
    /// How many of the texts, of so many tokens each, [`Model::hidden_states_of`] should be given at once: the first
    /// one, and those behind it whose hidden states are the same to the bit beside it. Those are of about its
    /// length, so sort them. One where kernels of ours do not run the model on a processor, and of a mixture of
    /// experts, where products have as many rows as an expert has of all texts.
    pub fn texts_together(&self, lengths: &[usize]) -> usize {
        let Some((first, others)) = lengths.split_first() else {
            return 0;
        };
        let way = self.way(*first);
        if self.states.is_none() || plan::sparse(&self.config.model) || way == Way::Either {
            return 1;
        }
        let most = match way {
            Way::Few => self.together,
            _ => MOST_ROWS,
        };
        let mut rows = *first;
        let fits = |length: &&usize| {
            rows += **length;
            rows <= most && self.way(**length) == way
        };
        1 + others.iter().take_while(fits).count()
    }

    fn way(&self, rows: usize) -> Way {
        match rows {
            _ if rows <= self.together => Way::Few,
            _ if rows >= graph::rows_in_tiles() => Way::Tiles,
            _ => Way::Either,
        }
    }

    /// Runs texts, one behind the other in `ids`, int32 `[L]`, as many tokens of each as `lengths` says, each into
    /// its empty cache: the normalized hidden states of all, `[L, hidden]`. Nothing is evaluated.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn hidden_states_of(
        &self,
        ids: &Array,
        lengths: &[i32],
        caches: &mut [&mut Cache],
    ) -> Result<Array> {
        if let ([cache], [_]) = (&mut *caches, lengths) {
            let states = self.forward(ids, cache, Logits::Hidden)?;
            return Ok(states.expect("a pass that was asked for hidden states gives them"));
        }
        let all = lengths.iter().try_fold(0_i32, |sum, n| sum.checked_add(*n));
        let fits = caches.len() == lengths.len() && all.is_some_and(|all| ids.shape() == [all]);
        if !fits || ids.dtype() != Dtype::Int32 {
            return Err(Error::Input(format!(
                "token ids of {} texts must be int32 and as many as the texts have, found {} {:?}",
                lengths.len(),
                ids.dtype(),
                ids.shape()
            )));
        }
        let made = self.decoder.hidden_states_of_each(ids, caches, lengths)?;
        let (hidden, added) = made.ok_or_else(|| {
            Error::Input("several texts are one pass only where caches are in pages".to_owned())
        })?;
        added.commit();
        Ok(hidden)
    }

    /// Refuses to go on behind `before` tokens of a text that has to be read whole.
    pub(super) fn check_whole(&self, before: i32) -> Result<()> {
        match self.config.model.bidirectional && before > 0 {
            true => Err(Error::Input(
                "the model is bidirectional: a text is one pass, and nothing comes behind it"
                    .to_owned(),
            )),
            false => Ok(()),
        }
    }
}
