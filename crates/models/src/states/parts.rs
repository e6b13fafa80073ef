//! A sequence as pages that are written down one by one and put together again.
//!
//! A page's place in a sequence says everything about it but what is in it: so pages of sequences that begin alike are
//! written down once, and a sequence goes on behind any whole page whose parts are all there.

use std::collections::HashMap;
use std::rc::Rc;

use kernels::graph::{PageKind, PageRoom, StillPage};

use super::sequence::{Pages, Sequence, whole_pages};
use super::slots::Slots;
use super::{Counted, PAGE, SequenceId, States};
use crate::{Error, Result};

/// A page of a sequence, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Keys and values of [`PAGE`] tokens.
    Keys {
        /// Of which kind of the model's states.
        kind: usize,
        /// The first token is at `page * PAGE`.
        page: usize,
    },
    /// The recurrent states behind the first `page * PAGE` tokens.
    Recurrent {
        /// Pages of tokens in front of them.
        page: usize,
    },
}

impl Part {
    /// The whole pages of tokens that have to be known to know it.
    pub fn pages(self) -> usize {
        match self {
            Self::Keys { page, .. } => page + 1,
            Self::Recurrent { page } => page,
        }
    }
}

impl States {
    /// Of the first `tokens` tokens of a sequence, the whole pages that it has. None of a sequence that was freed.
    pub fn parts(&self, id: SequenceId, tokens: i32) -> Vec<Part> {
        let Some(sequence) = self.sequences.get(&id) else {
            return Vec::new();
        };
        let most = tokens.clamp(0, sequence.position) as usize / PAGE;
        let mut parts = Vec::new();
        for (kind, pages) in sequence.kinds.iter().enumerate() {
            let whole = pages.whole().take_while(|(page, _)| *page < most);
            parts.extend(whole.map(|(page, _)| Part::Keys { kind, page }));
        }
        let slots = sequence.slots.iter().flat_map(Slots::offsets);
        let mut at: Vec<usize> = slots
            .map(|offset| offset.unsigned_abs() as usize)
            .filter(|offset| offset.is_multiple_of(PAGE) && (1..=most).contains(&(offset / PAGE)))
            .map(|offset| offset / PAGE)
            .collect();
        at.sort_unstable();
        at.dedup();
        parts.extend(at.into_iter().map(|page| Part::Recurrent { page }));
        parts
    }

    /// A part, for another thread to read. `None` where the sequence has it not, or operations that have not run have
    /// it. Whoever writes there meanwhile writes a copy.
    pub fn still(&self, id: SequenceId, part: Part) -> Option<StillPage> {
        let sequence = self.sequences.get(&id)?;
        let page = match part {
            Part::Keys { kind, page } => {
                let mut whole = sequence.kinds.get(kind)?.whole();
                whole.find(|(at, _)| *at == page)?.1
            }
            Part::Recurrent { page } => sequence.slots.as_ref()?.at((page * PAGE) as i32)?,
        };
        page.was_shared.set(true);
        page.page.still(page.bytes)
    }

    /// The parts of which a sequence of `pages * PAGE` tokens can be [put together](States::assemble).
    pub fn needed(&self, pages: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        for (i, kind) in self.map.kinds().iter().enumerate() {
            let first = whole_pages(pages, kind.window);
            parts.extend((first..pages).map(|page| Part::Keys { kind: i, page }));
        }
        if pages > 0 && !self.map.slots().is_empty() {
            parts.push(Part::Recurrent { page: pages });
        }
        parts
    }

    /// Bytes of a part.
    pub fn part_bytes(&self, part: Part) -> usize {
        self.part_kind(part).map_or(0, |kind| kind.bytes)
    }

    fn part_kind(&self, part: Part) -> Option<&PageKind> {
        match part {
            Part::Keys { kind, .. } => self.map.kinds().get(kind),
            Part::Recurrent { .. } => Some(self.map.slots().kind()),
        }
    }

    /// Memory for a part, which any thread may fill.
    ///
    /// # Errors
    /// When there is no such part, or no memory.
    pub fn room(&self, part: Part) -> Result<PageRoom> {
        let kind = self.part_kind(part).ok_or_else(|| missing(part))?;
        Ok(PageRoom::new(kind)?)
    }

    /// A sequence of `pages * PAGE` tokens, of all parts that it [needs](States::needed). What is in them is believed.
    ///
    /// # Errors
    /// When one is missing or of another size.
    pub fn assemble(&mut self, pages: usize, parts: Vec<(Part, PageRoom)>) -> Result<SequenceId> {
        let mut parts: HashMap<Part, PageRoom> = parts.into_iter().collect();
        let held = Rc::clone(&self.held);
        let mut take = |part: Part, kind: &PageKind| {
            let mut room = parts.remove(&part).ok_or_else(|| missing(part))?;
            if room.bytes_mut().len() != kind.bytes {
                return Err(missing(part));
            }
            Ok(Counted::of(room.into_page(), kind, &held))
        };
        let position =
            i32::try_from(pages * PAGE).map_err(|_| missing(Part::Recurrent { page: pages }))?;
        let mut kinds = Vec::with_capacity(self.map.kinds().len());
        for (i, kind) in self.map.kinds().iter().enumerate() {
            let first = whole_pages(pages, kind.window);
            let list = (first..pages).map(|page| take(Part::Keys { kind: i, page }, kind));
            kinds.push(Pages::of(kind, first, list.collect::<Result<_>>()?));
        }
        let slots = match self.no_slots() {
            Some(_) if pages > 0 => {
                let page = take(Part::Recurrent { page: pages }, self.map.slots().kind())?;
                Some(Slots::behind(position, page))
            }
            none => none,
        };
        let mut sequence = Sequence::new(kinds, slots);
        sequence.position = position;
        Ok(self.add(sequence))
    }

    /// Bytes of the pages of some sequences, those that several have once.
    pub fn bytes_of_all(&self, ids: &[SequenceId]) -> usize {
        self.shares(ids).values().map(|(page, _)| page.bytes).sum()
    }

    /// Bytes of the pages that some sequences have and no other has.
    pub fn bytes_alone(&self, ids: &[SequenceId]) -> usize {
        let shares = self.shares(ids);
        let alone = shares
            .values()
            .filter(|(page, shares)| Rc::strong_count(page) == *shares);
        alone.map(|(page, _)| page.bytes).sum()
    }

    /// The pages of some sequences, and how often they have each.
    fn shares(&self, ids: &[SequenceId]) -> HashMap<*const Counted, (&Rc<Counted>, usize)> {
        let mut shares = HashMap::new();
        let sequences = ids.iter().filter_map(|id| self.sequences.get(id));
        for page in sequences.flat_map(Sequence::all_pages) {
            shares.entry(Rc::as_ptr(page)).or_insert((page, 0)).1 += 1;
        }
        shares
    }

    /// How many tokens a sequence would hold behind [`States::rewind`] to `to`.
    pub fn reachable(&self, id: SequenceId, to: i32) -> i32 {
        self.sequences.get(&id).map_or(0, |s| s.reachable(to))
    }

    /// What else than the tokens decides the bytes of a part: its sizes.
    pub fn layout(&self) -> String {
        format!(
            "{:?} {:?} {:?} {PAGE}",
            self.map.kinds(),
            self.map.heads(),
            self.map.slots()
        )
    }
}

fn missing(part: Part) -> Error {
    Error::Input(format!(
        "a sequence cannot be put together: there is no {part:?}"
    ))
}
