//! A pass that runs a few layers at a time, so that the steps of others come in between.
//!
//! A chunk of a prompt takes ten times as long as a step of a GPU, and the chunks are cut alike whoever else is
//! there, for the sake of the same text. So a chunk does not become shorter where others wait; it pauses between
//! two layers.

use mlx_core::{Array, Dtype};

use super::{Logits, Model};
use crate::cache::Cache;
use crate::nn;
use crate::{Error, Result};

/// Tokens of one sequence on their way through the layers. Until they are [`Passed::Whole`], or
/// [given up](Pass::give_up), some layers of the sequence's cache have them and others do not.
pub struct Pass {
    at: At,
    want: Logits,
    /// Tokens that the cache held before.
    before: i32,
}

enum At {
    Layers(nn::Pass),
    /// `[1, vocab]`, made at once.
    Logits(Array),
}

/// How far a pass came.
pub enum Passed {
    /// All layers have run: the logits that it was asked for.
    Whole(Option<Array>),
    /// Some have.
    Part(Pass),
}

impl Pass {
    /// Takes back what the layers have added to `cache`, which is that of the pass.
    pub fn give_up(self, cache: &mut Cache) {
        cache.undo_to(self.before);
    }
}

impl Model {
    /// Begins to run the tokens `ids`, int32 `[L]`, that follow those in `cache`; [`Model::go_on`] does it.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn begin(&self, ids: &Array, cache: &mut Cache, want: Logits) -> Result<Pass> {
        let shape = ids.shape();
        if shape.len() != 1 || shape[0] == 0 || ids.dtype() != Dtype::Int32 {
            return Err(Error::Input(format!(
                "token ids must be int32 [L] with L > 0, found {} {shape:?}",
                ids.dtype()
            )));
        }
        let before = cache.offset();
        self.check_whole(before)?;
        match self.begin_at(ids, cache, want) {
            Ok(at) => Ok(Pass { at, want, before }),
            Err(error) => {
                cache.undo_to(before);
                Err(error)
            }
        }
    }

    fn begin_at(&self, ids: &Array, cache: &mut Cache, want: Logits) -> Result<At> {
        let length = ids.dim(0);
        if length == 1
            && matches!(want, Logits::Last | Logits::All)
            && let Some(logits) = self.decoder.next_logits(ids, &mut [&mut *cache])?
        {
            return Ok(At::Logits(logits));
        }
        let rows = match want {
            Logits::All | Logits::Hidden => length,
            Logits::None | Logits::Last => 1,
        };
        Ok(At::Layers(self.decoder.begin(ids, cache, rows)?))
    }

    /// Goes on with a pass, whose sequence's cache is `cache`, for as long as `more` says. That is asked on a GPU
    /// only, in passes of some length, after every few layers; elsewhere all layers run. What it gives is what
    /// [`Model::forward`] gives, wherever it paused.
    ///
    /// # Errors
    /// As [`Model::forward`]; the pass is over then.
    pub fn go_on(
        &self,
        mut pass: Pass,
        cache: &mut Cache,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Passed> {
        match self.logits_of(&mut pass, cache, more) {
            Ok(Some(logits)) => Ok(Passed::Whole(logits)),
            Ok(None) => Ok(Passed::Part(pass)),
            Err(error) => {
                pass.give_up(cache);
                Err(error)
            }
        }
    }

    /// The logits that were asked for; nothing where the pass has paused.
    fn logits_of(
        &self,
        pass: &mut Pass,
        cache: &mut Cache,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Option<Array>>> {
        let logits = match &mut pass.at {
            At::Logits(logits) => Some(logits.clone()),
            At::Layers(at) => match self.decoder.go_on(at, cache, more)? {
                None => return Ok(None),
                Some(_) if pass.want == Logits::None => None,
                Some(hidden) if pass.want == Logits::Hidden => Some(hidden),
                Some(hidden) => Some(self.decoder.logits(&hidden)?),
            },
        };
        let logits = match (logits, pass.want) {
            (Some(logits), Logits::Last) => Some(logits.reshape(&[-1])?),
            (logits, _) => logits,
        };
        // Nothing can fail any more.
        if let At::Layers(at) = &mut pass.at {
            at.commit();
        }
        Ok(Some(logits))
    }
}
