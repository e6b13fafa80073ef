//! The recurrent states of one sequence: pages, each of all layers behind some token.
//!
//! A pass reads the latest one and writes another, which is a page that the sequence has no use for any more where
//! there is one: a step of an answer takes no memory from the system.

use std::rc::Rc;

use arch::Recurrent;
use kernels::graph::SlotPages;

use super::Counted;
use crate::Result;
use crate::cache::{History, Past};

/// A chunk of a prompt leaves a checkpoint at the last multiple of it, as MLX's operations do.
const CHUNK: i32 = 64;

/// Pages of a sequence, at the most: the latest, the one before it, checkpoints, and one to be written.
pub(super) const MOST: u64 = Recurrent::CHECKPOINTS as u64 + 3;

/// The states behind so many tokens.
#[derive(Clone, Debug)]
struct Slot {
    offset: i32,
    page: Rc<Counted>,
}

impl Past for Slot {
    fn offset(&self) -> i32 {
        self.offset
    }
}

/// Those that a sequence keeps.
#[derive(Debug, Default)]
pub(super) struct Slots {
    history: History<Slot>,
    /// A page that nobody wants.
    spare: Option<Rc<Counted>>,
}

/// New pages for a pass.
#[derive(Debug)]
pub(super) struct TakenSlots {
    behind: Rc<Counted>,
    /// Behind so many of the new tokens: their page, or none where it is the one behind all of them.
    aligned: Option<(i32, Option<Rc<Counted>>)>,
}

impl Slots {
    /// Pages for the tokens from `position` up to `stop`.
    pub(super) fn take(
        &mut self,
        position: i32,
        stop: i32,
        page: impl Fn() -> Result<Rc<Counted>>,
    ) -> Result<TakenSlots> {
        // Whoever else had it may still be reading.
        let spare = self.spare.take().filter(Counted::is_own);
        let multiple = stop / CHUNK * CHUNK;
        let aligned = (stop - position > 1 && multiple > position).then_some(multiple);
        let aligned = match aligned {
            Some(at) if at < stop => Some((at - position, Some(page()?))),
            aligned => aligned.map(|at| (at - position, None)),
        };
        Ok(TakenSlots {
            behind: spare.map_or_else(page, Ok)?,
            aligned,
        })
    }

    /// The pages of a pass.
    pub(super) fn with(&self, taken: &TakenSlots) -> SlotPages {
        let before = self.history.latest();
        let aligned = taken.aligned.as_ref();
        SlotPages {
            before: before.map(|slot| slot.page.page.clone()),
            behind: taken.behind.page.clone(),
            aligned: aligned.and_then(|(rows, page)| Some((*rows, page.as_ref()?.page.clone()))),
        }
    }

    /// They are these from now on, behind `count` tokens more.
    pub(super) fn give(&mut self, taken: TakenSlots, count: i32) {
        let position = self.history.offset();
        let slot = |count: i32, page: Rc<Counted>| Slot {
            offset: position + count,
            page,
        };
        let latest = slot(count, taken.behind);
        let aligned = taken.aligned.map(|(rows, page)| match page {
            Some(page) => slot(rows, page),
            None => latest.clone(),
        });
        let replaced = self.history.put(latest, aligned);
        let replaced = replaced.map(|slot| slot.page).filter(Counted::is_own);
        self.spare = replaced.or(self.spare.take());
    }

    /// Those of a sequence that goes on behind `offset` tokens, with nothing before.
    pub(super) fn behind(offset: i32, page: Rc<Counted>) -> Self {
        let mut history = History::default();
        let state = Slot { offset, page };
        history.put(state.clone(), Some(state));
        Self {
            history,
            spare: None,
        }
    }

    /// Behind how many tokens each of the states is.
    pub(super) fn offsets(&self) -> impl Iterator<Item = i32> {
        self.history.states().map(|slot| slot.offset)
    }

    /// The states behind `offset` tokens.
    pub(super) fn at(&self, offset: i32) -> Option<&Rc<Counted>> {
        let mut states = self.history.states();
        let found = states.find(|slot| slot.offset == offset);
        found.map(|slot| &slot.page)
    }

    /// All pages; one may come several times.
    pub(super) fn pages(&self) -> impl Iterator<Item = &Rc<Counted>> {
        let states = self.history.states().map(|slot| &slot.page);
        self.spare.iter().chain(states)
    }

    /// See [`History::reachable`].
    pub(super) fn reachable(&self, to: i32) -> i32 {
        self.history.reachable(to)
    }

    /// See [`History::rewind`].
    pub(super) fn rewind(&mut self, to: i32) -> i32 {
        self.history.rewind(to)
    }

    pub(super) fn fork(&self) -> Self {
        let slots = self.history.states();
        slots.for_each(|slot| slot.page.was_shared.set(true));
        Self {
            history: self.history.clone(),
            spare: None,
        }
    }

    /// Bytes of all pages.
    pub(super) fn bytes(&self) -> usize {
        let mut pages: Vec<&Rc<Counted>> = self.spare.iter().collect();
        for slot in self.history.states() {
            if !pages.iter().any(|page| Rc::ptr_eq(page, &slot.page)) {
                pages.push(&slot.page);
            }
        }
        pages.iter().map(|page| page.bytes).sum()
    }
}
