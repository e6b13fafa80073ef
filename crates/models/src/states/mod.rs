//! What sequences remember, in pages.
//!
//! Keys and values of [`PAGE`] tokens of all layers of a kind are one page: full attention is a kind, and each
//! width of a window. A sequence has a list of pages of each kind. It grows by a page, without a copy; a window
//! lets go of the pages that it has left behind; and sequences that begin alike share their pages until one of
//! them writes there, which takes a copy of that one page first.
//!
//! The recurrent states of all layers behind some token are a page too, which is written once.
//!
//! A pass takes its pages by [`States::reserve`] before anything changes, and [`States::commit`] moves the
//! sequences once the pass is built: one that cannot be changes none. Only our kernels on a processor run in
//! pages; elsewhere there are the [caches](crate::cache) of layers.

mod export;
mod parts;
mod pass;
mod sequence;
mod slots;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arch::State;
use kernels::graph::{DeltaSizes, Heads, Page, PageKind, PageMap, Segment, SlotMap};
use mlx_core::{Array, Dtype};

use crate::{Error, Result};
pub use export::Exported;
pub use kernels::graph::live_pages;
pub use kernels::graph::{PageRoom, StillPage};
pub use kernels::pages::PAGE;
pub use parts::Part;
pub(crate) use pass::{Added, Paged};
use sequence::{Pages, Sequence, Taken};
use slots::{Slots, TakenSlots};

/// A sequence of [`States`]. None that was freed is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// New tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Which.
    pub sequence: SequenceId,
    /// How many.
    pub count: i32,
}

/// Room for a pass, which nobody has yet.
#[derive(Debug)]
pub struct Reserved {
    parts: Vec<Growth>,
}

#[derive(Debug)]
struct Growth {
    rows: Rows,
    position: i32,
    /// Of each kind.
    kinds: Vec<Taken>,
    /// Of recurrent states.
    slots: Option<TakenSlots>,
}

/// The sequences of a model and the pages that they are in.
#[derive(Debug)]
pub struct States {
    map: Arc<PageMap>,
    sequences: BTreeMap<SequenceId, Sequence>,
    next: u64,
    held: Rc<Counts>,
}

/// What all sequences hold together.
#[derive(Debug, Default)]
struct Counts {
    pages: Cell<usize>,
    bytes: Cell<usize>,
}

/// A page that some sequences have.
#[derive(Debug)]
struct Counted {
    page: Page,
    bytes: usize,
    /// Whether more than one sequence had it.
    was_shared: Cell<bool>,
    held: Rc<Counts>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.pages.update(|pages| pages - 1);
        self.held.bytes.update(|bytes| bytes - self.bytes);
    }
}

impl Counted {
    fn new(kind: &PageKind, held: &Rc<Counts>) -> Result<Rc<Self>> {
        Ok(Self::of(Page::new(kind)?, kind, held))
    }

    fn of(page: Page, kind: &PageKind, held: &Rc<Counts>) -> Rc<Self> {
        held.pages.update(|pages| pages + 1);
        held.bytes.update(|bytes| bytes + kind.bytes);
        Rc::new(Self {
            page,
            bytes: kind.bytes,
            was_shared: Cell::new(false),
            held: Rc::clone(held),
        })
    }

    /// Whether nobody else reads it, neither a sequence nor an operation of one that had it and let it go.
    fn is_own(self: &Rc<Self>) -> bool {
        let alone = Rc::strong_count(self) == 1;
        if alone && self.was_shared.get() && !self.page.is_in_use() {
            self.was_shared.set(false);
        }
        alone && !self.was_shared.get()
    }
}

impl States {
    /// No sequences yet, of a model with these states and activations of `dtype`; `None` where kernels lack it.
    pub fn new(states: &[State], dtype: Dtype) -> Option<Self> {
        let (mut keys, mut nets) = (Vec::new(), Vec::new());
        for state in states {
            match state {
                State::Keys(of) => {
                    let heads = Heads {
                        count: of.heads as i32,
                        dim: of.head_dim as i32,
                        dtype,
                    };
                    let window = of.window.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
                    keys.push((heads, window.map(|n| n.max(1))));
                }
                State::Recurrent(of) => {
                    let values = of.heads.checked_mul(of.value_dim)?;
                    let queries = of.channels.checked_sub(values)?;
                    nets.push(DeltaSizes {
                        key_heads: (queries / 2).checked_div(of.key_dim)?,
                        heads: of.heads,
                        key_dim: of.key_dim,
                        value_dim: of.value_dim,
                        width: of.tail + 1,
                    });
                }
            }
        }
        let slots = SlotMap::new(&nets, dtype)?;
        Some(Self {
            map: Arc::new(PageMap::new(&keys, slots)?),
            sequences: BTreeMap::new(),
            next: 0,
            held: Rc::default(),
        })
    }

    /// The same, of a bidirectional model: each sequence is one pass.
    pub fn bidirectional(mut self, is: bool) -> Self {
        self.map = Arc::new(PageMap::clone(&self.map).bidirectional(is));
        self
    }

    /// An empty sequence.
    pub fn begin(&mut self) -> SequenceId {
        let kinds = self.map.kinds().iter().map(Pages::new).collect();
        let slots = self.no_slots();
        self.add(Sequence::new(kinds, slots))
    }

    /// The recurrent states of an empty sequence, if the model has such.
    fn no_slots(&self) -> Option<Slots> {
        (!self.map.slots().is_empty()).then(Slots::default)
    }

    fn add(&mut self, sequence: Sequence) -> SequenceId {
        let id = SequenceId(self.next);
        self.next += 1;
        self.sequences.insert(id, sequence);
        id
    }

    /// Frees a sequence, and with it the pages that no other has. Operations that are under way keep theirs until
    /// they have run.
    pub fn free(&mut self, id: SequenceId) {
        self.sequences.remove(&id);
    }

    /// Tokens of a sequence: the position of the next one. 0 of one that was freed.
    pub fn position(&self, id: SequenceId) -> i32 {
        self.sequences.get(&id).map_or(0, |s| s.position)
    }

    /// A result of the last operation that used a sequence's pages.
    pub(crate) fn last(&self, id: SequenceId) -> Option<Rc<Array>> {
        self.sequences.get(&id)?.last.clone()
    }

    fn get(&self, id: SequenceId) -> Result<&Sequence> {
        let sequence = self.sequences.get(&id);
        sequence.ok_or_else(|| Error::Input(format!("there is no sequence {}", id.0)))
    }

    /// Takes all pages that `batch` needs, for each sequence once. Nothing changes, and where this fails, or what
    /// it gives is dropped, nothing is held.
    ///
    /// # Errors
    /// When a sequence is named twice or was freed, no token is added, or there is no memory.
    pub fn reserve(&mut self, batch: &[Rows]) -> Result<Reserved> {
        let mut parts: Vec<Growth> = Vec::with_capacity(batch.len());
        for rows in batch {
            let twice = parts.iter().any(|p| p.rows.sequence == rows.sequence);
            let sequence = self.get(rows.sequence)?;
            let position = sequence.position;
            let stop = position.checked_add(rows.count);
            let stop = stop.filter(|_| rows.count > 0 && !twice).ok_or_else(|| {
                let (count, id) = (rows.count, rows.sequence.0);
                Error::Input(format!("{count} tokens cannot be added to sequence {id}"))
            })?;
            let kinds = self.map.kinds().iter().zip(&sequence.kinds);
            let kinds = kinds.map(|(kind, pages)| pages.take(position, stop, || self.page(kind)));
            let kinds = kinds.collect::<Result<_>>()?;
            let slots = self.take_slots(rows.sequence, position, stop)?;
            parts.push(Growth {
                rows: *rows,
                position,
                kinds,
                slots,
            });
        }
        Ok(Reserved { parts })
    }

    /// The pages of recurrent states for a sequence's tokens from `position` up to `stop`, if the model has such.
    fn take_slots(
        &mut self,
        id: SequenceId,
        position: i32,
        stop: i32,
    ) -> Result<Option<TakenSlots>> {
        let (map, held) = (Arc::clone(&self.map), Rc::clone(&self.held));
        let slots = self.sequences.get_mut(&id).and_then(|s| s.slots.as_mut());
        let page = || Counted::new(map.slots().kind(), &held);
        slots
            .map(|slots| slots.take(position, stop, page))
            .transpose()
    }

    fn page(&self, kind: &PageKind) -> Result<Rc<Counted>> {
        Counted::new(kind, &self.held)
    }

    /// The segments of a pass, for operations that run in pages, in the order of the batch.
    ///
    /// # Errors
    /// When one of them was freed.
    pub fn segments(&self, reserved: &Reserved) -> Result<Vec<Segment>> {
        let parts = reserved.parts.iter().map(|part| {
            let sequence = self.get(part.rows.sequence)?;
            let kinds = sequence.kinds.iter().zip(&part.kinds);
            Ok(Segment {
                rows: part.rows.count,
                position: part.position,
                kinds: kinds.map(|(pages, taken)| pages.with(taken)).collect(),
                slots: sequence
                    .slots
                    .as_ref()
                    .zip(part.slots.as_ref())
                    .map(|(s, t)| s.with(t)),
                after: sequence.last.clone(),
            })
        });
        parts.collect()
    }

    /// The sequences have the new tokens, which the operation writes whose result `done` is. A sequence that was
    /// freed or moved since is left as it is.
    pub fn commit(&mut self, reserved: Reserved, done: &Rc<Array>) {
        for part in reserved.parts {
            let sequence = self.sequences.get_mut(&part.rows.sequence);
            let Some(sequence) = sequence.filter(|s| s.position == part.position) else {
                continue;
            };
            sequence.position += part.rows.count;
            sequence.last = Some(Rc::clone(done));
            for (pages, taken) in sequence.kinds.iter_mut().zip(part.kinds) {
                pages.give(taken);
                pages.leave_behind(sequence.position);
            }
            if let (Some(slots), Some(taken)) = (&mut sequence.slots, part.slots) {
                slots.give(taken, part.rows.count);
            }
        }
    }

    /// Makes a sequence hold its first `to` tokens and nothing else, or as few as it can; returns how many it holds
    /// then. Full attention reaches every position, a recurrent state the last checkpoint at or below. A window reaches back over the page before the one in which it
    /// begins, 256 tokens at the least; further only as long as nothing was left behind, or to 0.
    pub fn rewind(&mut self, id: SequenceId, to: i32) -> i32 {
        self.sequences.get_mut(&id).map_or(0, |s| s.rewind(to))
    }

    /// A second sequence with the same tokens, in the same pages.
    ///
    /// # Errors
    /// When it was freed.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId> {
        let second = self.get(id)?.fork();
        Ok(self.add(second))
    }

    /// Pages that sequences hold; what they share counts once.
    pub fn pages(&self) -> usize {
        self.held.pages.get()
    }

    /// Bytes of these pages.
    pub fn bytes(&self) -> usize {
        self.held.bytes.get()
    }

    /// Bytes of the pages of one sequence, those that it shares among them.
    pub fn bytes_of(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, Sequence::bytes)
    }

    /// The most bytes that a sequence of so many tokens holds, between two passes.
    pub fn bytes_for(&self, tokens: u64) -> u64 {
        let slots = self.map.slots().kind().bytes as u64;
        let slots = slots.saturating_mul(slots::MOST);
        let kinds = self.map.kinds().iter();
        kinds.fold(slots, |sum, kind| {
            let pages = sequence::most_pages(tokens, kind.window);
            u64::saturating_add(sum, pages.saturating_mul(kind.bytes as u64))
        })
    }

    pub(crate) fn map(&self) -> &Arc<PageMap> {
        &self.map
    }
}
