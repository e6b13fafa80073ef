//! What a gated delta net remembers of a sequence: as much after any number of tokens.
//!
//! Nothing of a state says what it was before, so going back needs earlier ones: see [`History`].

use arch::Recurrent;
use mlx_core::{Array, Dtype};

use super::history::{History, Past};

/// A state behind so many tokens.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) offset: i32,
    /// The inputs of the convolution that the next token sees, `[tail, channels]`.
    pub(crate) tail: Array,
    /// Float32 `[heads, key_dim, value_dim]`.
    pub(crate) matrices: Array,
}

impl Past for Slot {
    fn offset(&self) -> i32 {
        self.offset
    }
}

/// The states of one layer: arrays, which nobody writes.
#[derive(Clone, Debug)]
pub struct RecurrentCache {
    sizes: Recurrent,
    history: History<Slot>,
}

impl RecurrentCache {
    /// An empty one.
    pub fn new(sizes: Recurrent) -> Self {
        Self {
            sizes,
            history: History::default(),
        }
    }

    /// Tokens seen so far.
    pub fn offset(&self) -> i32 {
        self.history.offset()
    }

    pub(crate) fn latest(&self) -> Option<&Slot> {
        self.history.latest()
    }

    /// Goes on to `latest`; `aligned` lies between.
    pub(crate) fn put(&mut self, latest: Slot, aligned: Option<Slot>) {
        self.history.put(latest, aligned);
    }

    /// The most tokens, up to `to`, that it can go back to hold.
    pub(crate) fn reachable(&self, to: i32) -> i32 {
        self.history.reachable(to)
    }

    /// Goes back to hold that many tokens, or the most below that it can; returns how many.
    pub(crate) fn rewind(&mut self, to: i32) -> i32 {
        self.history.rewind(to)
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
        let missing = most.saturating_sub(self.history.states().count()).min(2);
        self.sizes.slot_bytes(dtype.size() as u64) * missing as u64
    }

    /// Bytes of all states. Several may be one.
    pub(super) fn nbytes(&self) -> usize {
        let bytes = |slot: &Slot| slot.tail.nbytes() + slot.matrices.nbytes();
        self.history.states().map(bytes).sum()
    }

    /// Of all states.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.history
            .states()
            .flat_map(|slot| [&slot.tail, &slot.matrices])
    }
}
