//! What a gated delta net remembers of a sequence: as much after any number of tokens.
//!
//! Nothing of a state says what it was before, so going back needs earlier ones: see [`History`].

use std::rc::Rc;

use arch::Recurrent;
use kernels::graph::Remembered;
use kernels::steps::Memories;
use mlx_core::{Array, Dtype};

use super::history::{History, Past};
use crate::Result;

/// A state behind so many tokens.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    offset: i32,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Own(Remembered),
    /// A part of what one kernel has left of all nets.
    OfAll {
        memories: Rc<Memories>,
        net: usize,
    },
}

impl Slot {
    pub(crate) fn new(offset: i32, state: Remembered) -> Self {
        let state = State::Own(state);
        Self { offset, state }
    }

    /// Of the net that is number `net` of all.
    pub(super) fn of_all(offset: i32, memories: &Rc<Memories>, net: usize) -> Self {
        let memories = Rc::clone(memories);
        let state = State::OfAll { memories, net };
        Self { offset, state }
    }

    pub(crate) fn remembered(&self) -> Result<Remembered> {
        Ok(match &self.state {
            State::Own(state) => state.clone(),
            State::OfAll { memories, net } => memories.of_net(*net)?,
        })
    }

    /// What the slots of all nets are parts of, if they are those of one token.
    pub(super) fn of_one_token<'a>(slots: &[&'a Self]) -> Option<&'a Memories> {
        let of_all = |slot: &'a Self| match &slot.state {
            State::Own(_) => None,
            State::OfAll { memories, .. } => Some(memories),
        };
        let first = of_all(slots.first()?)?;
        let others = slots.iter().map(|slot| of_all(slot));
        let mut others = others.map(|other| other.is_some_and(|other| Rc::ptr_eq(first, other)));
        others.all(|is| is).then_some(&**first)
    }

    /// All that it keeps alive.
    pub(super) fn arrays(&self) -> [&Array; 2] {
        match &self.state {
            State::Own(state) => [&state.tail, &state.matrices],
            State::OfAll { memories, .. } => [&memories.tails, &memories.states],
        }
    }

    /// Bytes, without those of other nets.
    fn nbytes(&self) -> usize {
        let bytes: usize = self.arrays().iter().map(|array| array.nbytes()).sum();
        match &self.state {
            State::Own(_) => bytes,
            State::OfAll { memories, .. } => bytes / memories.states.dim(0).max(1) as usize,
        }
    }
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
        self.history.states().map(Slot::nbytes).sum()
    }

    /// Of all states.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.history.states().flat_map(Slot::arrays)
    }
}
