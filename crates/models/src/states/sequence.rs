//! One sequence: its pages of each kind.

use std::collections::VecDeque;
use std::rc::Rc;

use kernels::graph::{PageKind, PageList};
use mlx_core::Array;

use super::slots::Slots;
use super::{Counted, PAGE};
use crate::Result;

const TOKENS: i32 = PAGE as i32;

/// Pages that a window keeps before those that it shows, so that some tokens can be taken back.
const BEHIND: i32 = 1;

/// A sequence.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) position: i32,
    /// A result of the last operation that used the pages.
    pub(super) last: Option<Rc<Array>>,
    /// Its pages of each kind.
    pub(super) kinds: Vec<Pages>,
    /// Its recurrent states, if the model has such.
    pub(super) slots: Option<Slots>,
}

/// The pages of one kind.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    window: Option<i32>,
    /// The first position whose keys and values are there.
    from: i32,
    /// From that which `from` is in.
    list: VecDeque<Rc<Counted>>,
}

/// New pages for a pass.
#[derive(Debug)]
pub(super) struct Taken {
    /// In place of the last one, which others have too: of that so many tokens are to be copied.
    own_last: Option<(Rc<Counted>, i32)>,
    more: Vec<Rc<Counted>>,
}

impl Taken {
    /// No pages, for who only reads.
    pub(super) fn nothing() -> Self {
        Self {
            own_last: None,
            more: Vec::new(),
        }
    }
}

impl Sequence {
    pub(super) fn new(kinds: Vec<Pages>, slots: Option<Slots>) -> Self {
        Self {
            position: 0,
            last: None,
            kinds,
            slots,
        }
    }

    /// See [`States::reachable`](super::States::reachable).
    pub(super) fn reachable(&self, to: i32) -> i32 {
        let reach = match to {
            // The first token sees none before it.
            ..=0 => 0,
            _ => self.kinds.iter().map(Pages::reach).max().unwrap_or(0),
        };
        let to = to.max(reach).clamp(0, self.position);
        match &self.slots {
            // What a window does not reach either is forgotten with the rest.
            Some(slots) => match slots.reachable(to) {
                least if least < reach => 0,
                reached => reached,
            },
            None => to,
        }
    }

    /// See [`States::rewind`](super::States::rewind).
    pub(super) fn rewind(&mut self, to: i32) -> i32 {
        self.position = self.reachable(to);
        if let Some(slots) = &mut self.slots {
            slots.rewind(self.position);
        }
        for pages in &mut self.kinds {
            pages.cut(self.position);
        }
        self.position
    }

    pub(super) fn fork(&self) -> Self {
        let pages = self.kinds.iter().flat_map(|pages| &pages.list);
        pages.for_each(|page| page.was_shared.set(true));
        Self {
            position: self.position,
            last: self.last.clone(),
            kinds: self.kinds.clone(),
            slots: self.slots.as_ref().map(Slots::fork),
        }
    }

    /// All pages; one may come several times.
    pub(super) fn all_pages(&self) -> impl Iterator<Item = &Rc<Counted>> {
        let slots = self.slots.iter().flat_map(Slots::pages);
        self.kinds.iter().flat_map(|pages| &pages.list).chain(slots)
    }

    /// Bytes of all pages.
    pub(super) fn bytes(&self) -> usize {
        let slots = self.slots.as_ref().map_or(0, Slots::bytes);
        slots + self.kinds.iter().map(Pages::bytes).sum::<usize>()
    }
}

impl Pages {
    pub(super) fn new(kind: &PageKind) -> Self {
        Self {
            window: kind.window,
            from: 0,
            list: VecDeque::new(),
        }
    }

    /// Room for the positions from `from` up to `stop`, in new pages.
    pub(super) fn filled(
        kind: &PageKind,
        from: i32,
        stop: i32,
        page: impl Fn() -> Result<Rc<Counted>>,
    ) -> Result<Self> {
        let mut pages = Self::new(kind);
        pages.from = from;
        let taken = pages.take(stop, stop, page)?;
        pages.give(taken);
        Ok(pages)
    }

    /// Those from page `first` on, with all of their tokens.
    pub(super) fn of(kind: &PageKind, first: usize, list: VecDeque<Rc<Counted>>) -> Self {
        Self {
            window: kind.window,
            from: (first * PAGE) as i32,
            list,
        }
    }

    /// The pages of which all tokens are there, but perhaps the last ones, each with its place in the sequence.
    pub(super) fn whole(&self) -> impl Iterator<Item = (usize, &Rc<Counted>)> {
        let first = self.first();
        let pages = (first / TOKENS) as usize..;
        let pages = pages.zip(&self.list);
        pages.skip(usize::from(self.from != first))
    }

    pub(super) fn from(&self) -> i32 {
        self.from
    }

    /// The position of the first page's first token.
    fn first(&self) -> i32 {
        self.from / TOKENS * TOKENS
    }

    pub(super) fn bytes(&self) -> usize {
        self.list.iter().map(|page| page.bytes).sum()
    }

    /// What these lack for tokens from `position` up to `stop`.
    pub(super) fn take(
        &self,
        position: i32,
        stop: i32,
        page: impl Fn() -> Result<Rc<Counted>>,
    ) -> Result<Taken> {
        let own_last = match self.list.back() {
            Some(last) if position % TOKENS != 0 && !last.is_own() => {
                Some((page()?, position % TOKENS))
            }
            _ => None,
        };
        let there = self.list.len() as i32;
        let needed = (stop - self.first() + TOKENS - 1) / TOKENS;
        let more = (there..needed).map(|_| page());
        Ok(Taken {
            own_last,
            more: more.collect::<Result<_>>()?,
        })
    }

    /// The pages of a pass.
    pub(super) fn with(&self, taken: &Taken) -> PageList {
        let mut pages: Vec<_> = self.list.iter().map(|page| page.page.clone()).collect();
        let mut copied = None;
        if let (Some((own, tokens)), Some(last)) = (&taken.own_last, pages.last_mut()) {
            copied = Some((std::mem::replace(last, own.page.clone()), *tokens));
        }
        pages.extend(taken.more.iter().map(|page| page.page.clone()));
        PageList {
            pages,
            first: self.first(),
            copied,
        }
    }

    /// The pages of a pass are these from now on.
    pub(super) fn give(&mut self, taken: Taken) {
        if let (Some((own, _)), Some(last)) = (taken.own_last, self.list.back_mut()) {
            *last = own;
        }
        self.list.extend(taken.more);
    }

    /// Lets go of what no token from `position` on sees, but for the pages that are kept for taking tokens back.
    pub(super) fn leave_behind(&mut self, position: i32) {
        let Some(window) = self.window else {
            return;
        };
        let seen = (position - window + 1).max(0);
        let kept = (seen / TOKENS - BEHIND) * TOKENS;
        while self.first() < kept {
            self.list.pop_front();
            self.from = self.first() + TOKENS;
        }
    }

    /// The first position to which these can go back: what the token there sees is there.
    fn reach(&self) -> i32 {
        match (self.window, self.from) {
            (_, 0) | (None, _) => 0,
            (Some(window), from) => from.saturating_add(window - 1),
        }
    }

    /// Lets go of the pages behind `position`.
    fn cut(&mut self, position: i32) {
        if position == 0 {
            self.from = 0;
        }
        let needed = (position - self.first() + TOKENS - 1) / TOKENS;
        self.list.truncate(needed.max(0) as usize);
    }
}

/// The most pages that a sequence of so many tokens has of a kind, between two passes.
pub(super) fn most_pages(tokens: u64, window: Option<i32>) -> u64 {
    let all = tokens.div_ceil(PAGE as u64);
    match window {
        // What the next token sees of others may begin at the end of a page and end at the beginning of one.
        Some(window) => {
            let seen = u64::from(window.unsigned_abs()).saturating_sub(1);
            all.min(seen.div_ceil(PAGE as u64) + 1 + BEHIND as u64)
        }
        None => all,
    }
}

/// The first page that a sequence of `pages` whole ones needs of a kind.
pub(super) fn whole_pages(pages: usize, window: Option<i32>) -> usize {
    let seen = window.map_or(0, |window| {
        (pages * PAGE + 1).saturating_sub(window.unsigned_abs() as usize)
    });
    seen / PAGE
}
