//! What may be drawn next, by somebody who follows the answer: a grammar, a schema.

use std::fmt::Debug;

use crate::Result;

/// Makes a [`Constraint`] for each answer. What can be refused is refused before a request is made of it.
pub(crate) trait Constrain: Debug + Send + Sync {
    /// At the start of an answer, on the engine's thread.
    fn start(&self) -> Result<Box<dyn Constraint>>;
}

/// Follows one answer. It is asked and told in turn, on one thread at a time: `mask`, `accept`, `mask`, `accept`.
///
/// On a processor that is MLX's worker, between two passes of the model: what takes long is best begun in `accept`
/// on a thread of its own, which then has a pass's time, and waited for in `mask`. An error, or a panic, ends this
/// request and no other. One that is put aside keeps its constraint as it is.
pub(crate) trait Constraint: Send {
    /// The tokens that may come next: bit `i % 32` of word `i / 32` is token `i`'s, and where there is no word it may
    /// not come. `None` is all of them.
    fn mask(&mut self) -> Result<Option<&[u32]>>;

    /// `id` was drawn; it may be a token that ends the answer, where the mask had it.
    fn accept(&mut self, id: u32) -> Result<Accepted>;
}

/// What follows from a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// Others may follow.
    GoesOn,
    /// It is the last one, and part of the answer unless it is an end-of-sequence token.
    Ends,
}
