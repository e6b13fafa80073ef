//! What a gated delta net remembers of a sequence: as much after any number of tokens.
//!
//! Nothing of a state says what it was before, so going back needs earlier ones: the one before the last pass, for
//! passes that others could not follow, and [`Recurrent::CHECKPOINTS`] that are kept for prompts that begin alike.

use arch::Recurrent;
use mlx_core::{Array, Dtype};

/// Tokens of an answer from one checkpoint to the next. Of a prompt each pass leaves one, at the last multiple of a
/// chunk of the gated delta rule.
const EVERY: i32 = 256;

/// A state behind so many tokens.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) offset: i32,
    /// The inputs of the convolution that the next token sees, `[tail, channels]`.
    pub(crate) tail: Array,
    /// Float32 `[heads, key_dim, value_dim]`.
    pub(crate) matrices: Array,
}

/// The states of one layer: arrays, which nobody writes.
#[derive(Debug)]
pub struct RecurrentCache {
    sizes: Recurrent,
    latest: Option<Slot>,
    /// The one in front of the last pass, if that was not empty.
    before: Option<Slot>,
    /// In the order of their tokens.
    checkpoints: Vec<Slot>,
}

impl RecurrentCache {
    /// An empty one.
    pub fn new(sizes: Recurrent) -> Self {
        Self {
            sizes,
            latest: None,
            before: None,
            checkpoints: Vec::new(),
        }
    }

    /// Tokens seen so far.
    pub fn offset(&self) -> i32 {
        self.latest.as_ref().map_or(0, |slot| slot.offset)
    }

    pub(crate) fn latest(&self) -> Option<&Slot> {
        self.latest.as_ref()
    }

    /// Goes on to `latest`; `aligned` lies between.
    pub(crate) fn put(&mut self, latest: Slot, aligned: Option<Slot>) {
        let is_due = latest.offset % EVERY == 0;
        let due = aligned.or_else(|| is_due.then(|| latest.clone()));
        if let Some(slot) = due {
            self.keep(slot);
        }
        self.before = self.latest.replace(latest);
    }

    /// Adds a checkpoint, and gives up the one whose going leaves the least to be run again beside what is run
    /// from there to the end in any case.
    fn keep(&mut self, slot: Slot) {
        let end = slot.offset;
        self.checkpoints.push(slot);
        if self.checkpoints.len() <= Recurrent::CHECKPOINTS {
            return;
        }
        let offset = |i: usize| self.checkpoints.get(i).map_or(end, |slot| slot.offset);
        let cost = |i: &usize| {
            let earlier = i.checked_sub(1).map_or(0, offset);
            let gap = f64::from(offset(i + 1) - earlier);
            gap / f64::from((end - offset(*i)).max(1))
        };
        let inner = 0..self.checkpoints.len() - 1;
        if let Some(least) = inner.min_by(|a, b| cost(a).total_cmp(&cost(b))) {
            self.checkpoints.remove(least);
        }
    }

    /// The most tokens, up to `to`, that it can go back to hold.
    pub(crate) fn reachable(&self, to: i32) -> i32 {
        let offsets = self.slots().map(|slot| slot.offset);
        offsets.filter(|offset| *offset <= to).max().unwrap_or(0)
    }

    /// Goes back to hold that many tokens, or the most below that it can; returns how many.
    pub(crate) fn rewind(&mut self, to: i32) -> i32 {
        let reached = self.reachable(to);
        if reached < self.offset() {
            let latest = self.slots().find(|slot| slot.offset == reached).cloned();
            self.latest = latest;
            self.before = None;
            self.checkpoints.retain(|slot| slot.offset <= reached);
        }
        reached
    }

    /// Forgets the `count` tokens of the last pass; false where that was longer.
    pub(super) fn undo(&mut self, count: i32) -> bool {
        let to = self.offset() - count;
        self.rewind(to) == to
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.sizes);
    }

    /// Bytes that the next pass adds at the most: a state, and a checkpoint.
    pub(super) fn new_bytes(&self, dtype: Dtype) -> u64 {
        let most = Recurrent::CHECKPOINTS + 2;
        let missing = most.saturating_sub(self.slots().count()).min(2);
        self.sizes.slot_bytes(dtype.size() as u64) * missing as u64
    }

    /// Bytes of all states. Several may be one.
    pub(super) fn nbytes(&self) -> usize {
        let bytes = |slot: &Slot| slot.tail.nbytes() + slot.matrices.nbytes();
        self.slots().map(bytes).sum()
    }

    /// Of all states.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.slots().flat_map(|slot| [&slot.tail, &slot.matrices])
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        let ends = self.latest.iter().chain(&self.before);
        ends.chain(&self.checkpoints)
    }
}
