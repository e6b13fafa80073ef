//! Texts that are read for something else than an answer, a pass of some at a time.
//!
//! The texts of a call are read from the shortest to the longest, since those of about one length can be rows of the
//! same products. Between two passes whoever decodes takes a step, and another call its turn.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;

use super::Place;
use crate::embedding::check_cancel;
use crate::language_model::{LanguageModel, Reading};
use crate::scheduler::catching;
use crate::{CancelToken, Result};

/// Texts that are looked at for one pass.
const LOOKED_AT: usize = 1024;

/// The texts of a call.
pub(crate) struct ReadJob {
    pub(crate) texts: Vec<Vec<u32>>,
    pub(crate) want: Reading,
    pub(crate) cancel: CancelToken,
    /// As long as none of them is read.
    pub(crate) place: Option<Place>,
    /// Gets what each text gave, in their order.
    pub(crate) reply: Sender<Result<Vec<Vec<f32>>>>,
}

/// A call that is served.
pub(super) struct Texts {
    job: ReadJob,
    /// Those that wait, by their place in the call.
    waiting: VecDeque<usize>,
    made: Vec<Vec<f32>>,
}

impl Texts {
    pub(super) fn new(job: ReadJob) -> Self {
        let mut waiting: Vec<usize> = (0..job.texts.len()).collect();
        waiting.sort_by_key(|i| job.texts[*i].len());
        Self {
            made: vec![Vec::new(); job.texts.len()],
            waiting: waiting.into(),
            job,
        }
    }

    /// Reads some of the texts; the call again, if more are to be read. Where others are served (not `alone`) and
    /// there is no memory for texts beside them, it waits.
    pub(super) fn step<M: LanguageModel>(mut self, model: &mut M, alone: bool) -> Option<Self> {
        let (of, left) = (self.made.len(), self.waiting.len());
        let cancelled = check_cancel(&self.job.cancel, of - left, of);
        if left == 0 || cancelled.is_err() {
            return self.end(cancelled);
        }
        let looked_at = self.waiting.iter().take(LOOKED_AT);
        let lengths: Vec<usize> = looked_at.map(|i| self.job.texts[*i].len()).collect();
        let together = model.texts_together(&lengths, &self.job.want);
        let count = together.clamp(1, lengths.len());
        if !alone && !model.has_room_for_texts(&lengths[..count]) {
            return Some(self);
        }
        self.job.place = None;
        let these: Vec<usize> = self.waiting.drain(..count).collect();
        let texts: Vec<&[u32]> = these.iter().map(|i| &self.job.texts[*i][..]).collect();
        match catching(|| model.read_texts(&texts, &self.job.want)) {
            Ok(made) => {
                for (i, made) in these.into_iter().zip(made) {
                    self.made[i] = made;
                }
                match self.waiting.is_empty() {
                    true => self.end(Ok(())),
                    false => Some(self),
                }
            }
            Err(error) => {
                // Caches would keep what they took until the next request.
                let _ = catching(|| model.drop_caches(None));
                self.end(Err(error))
            }
        }
    }

    fn end(self, outcome: Result<()>) -> Option<Self> {
        // A failed send means that the caller has gone; there is nobody to tell.
        let _ = self.job.reply.send(outcome.map(|()| self.made));
        None
    }
}
