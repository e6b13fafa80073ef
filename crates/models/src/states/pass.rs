//! A sequence that a cache has, and a pass of several.

use std::cell::RefCell;
use std::rc::Rc;

use kernels::graph::PinnedBlocks;
use mlx_core::Array;

use super::{Reserved, Rows, SequenceId, States};
use crate::{Error, Result};

/// A sequence of some states, freed with this.
#[derive(Debug)]
pub(crate) struct Paged {
    states: Rc<RefCell<States>>,
    id: SequenceId,
}

impl Drop for Paged {
    fn drop(&mut self) {
        self.states.borrow_mut().free(self.id);
    }
}

impl Paged {
    pub(crate) fn new(states: &Rc<RefCell<States>>) -> Self {
        let id = states.borrow_mut().begin();
        Self {
            states: Rc::clone(states),
            id,
        }
    }

    /// A sequence that is this one's from now on.
    pub(crate) fn of(states: &Rc<RefCell<States>>, id: SequenceId) -> Self {
        Self {
            states: Rc::clone(states),
            id,
        }
    }

    pub(crate) fn id(&self) -> SequenceId {
        self.id
    }

    pub(crate) fn position(&self) -> i32 {
        self.states.borrow().position(self.id)
    }

    /// See [`States::rewind`].
    pub(crate) fn rewind(&mut self, to: i32) -> i32 {
        self.states.borrow_mut().rewind(self.id, to)
    }

    /// See [`States::reachable`].
    pub(crate) fn reachable(&self, to: i32) -> i32 {
        self.states.borrow().reachable(self.id, to)
    }

    /// See [`States::fork`].
    pub(crate) fn fork(&self) -> Result<Self> {
        Ok(Self {
            states: Rc::clone(&self.states),
            id: self.states.borrow_mut().fork(self.id)?,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.states.borrow().bytes_of(self.id)
    }

    /// A result of the last operation that wrote the pages.
    pub(crate) fn last(&self) -> Option<Rc<Array>> {
        self.states.borrow().last(self.id)
    }
}

/// New tokens of some sequences that an operation writes. If this is dropped, none has them.
#[must_use]
pub(crate) struct Added {
    states: Rc<RefCell<States>>,
    reserved: Reserved,
    done: Rc<Array>,
}

impl Added {
    /// All blocks, `stack`, for the rows of the stream `x [L, hidden]`, as many of each of the sequences as `counts`
    /// says, with the inputs that blocks have beside it; of the result the last
    /// `rows`, `[rows, hidden]`.
    pub(crate) fn run(
        stack: &PinnedBlocks,
        x: &Array,
        inputs: Option<&Array>,
        sequences: &[&Paged],
        counts: &[i32],
        rows: i32,
    ) -> Result<(Array, Self)> {
        let apart = || Error::Input("sequences of several models in one pass".to_owned());
        let first = sequences.first().ok_or_else(apart)?;
        let same = |one: &&Paged| Rc::ptr_eq(&one.states, &first.states);
        if !sequences.iter().all(same) {
            return Err(apart());
        }
        let batch: Vec<Rows> = sequences
            .iter()
            .zip(counts)
            .map(|(sequence, count)| Rows {
                sequence: sequence.id,
                count: *count,
            })
            .collect();
        let mut states = first.states.borrow_mut();
        let reserved = states.reserve(&batch)?;
        let segments = states.segments(&reserved)?;
        let [y, done] = stack.run(x, inputs, states.map(), &segments, rows)?;
        let added = Self {
            states: Rc::clone(&first.states),
            reserved,
            done: Rc::new(done),
        };
        Ok((y, added))
    }

    /// The sequences have the tokens.
    pub(crate) fn commit(self) {
        self.states.borrow_mut().commit(self.reserved, &self.done);
    }
}
