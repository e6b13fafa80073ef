//! Pages as memory of MLX's allocator, and how operations of its graph come to them.
//!
//! Pages are no inputs of an operation: each input costs it time, and a sequence may have hundreds. Its closure
//! holds them, so that a page which nobody else wants any more lives until the operation has run. What was
//! written before it reads depends on one array, a result of the operation that wrote last.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mlx_core::host_op::{Failure, Room};
use mlx_core::{Array, Error, Result};

use super::slots::{HeldSlots, SlotMap, SlotPages, Slots};
use super::{Addresses, PAGE, Pages, Place};
use crate::Cpu;
use crate::arrays::dtype;
use crate::attention::MaskView;
use crate::kv::Heads;
use crate::scratch::Shared;
use crate::vector::copy;

/// Pages that this process has, those of operations under way among them.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many pages this process has, those that only operations under way still hold among them.
pub fn live_pages() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Memory of keys and values of [`PAGE`] tokens.
///
/// It stays on the thread that made it. So all operations that use it are on one stream of MLX, whose worker
/// runs one after the other: no two touch it at a time. That one reads what another wrote is up to who orders
/// them.
#[derive(Clone, Debug)]
pub struct Page {
    pub(super) memory: Arc<Memory>,
    pub(super) life: PhantomData<*const ()>,
}

/// The memory of a page, which closures hold.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) room: Room,
    /// The last operation that was to write it, by its number.
    written_in: AtomicU64,
    /// Operations that have not run and will write it.
    pub(super) writers: AtomicUsize,
    /// Threads that read it beside operations: see [`StillPage`](super::still::StillPage).
    pub(super) readers: AtomicUsize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Page {
    /// A page with anything in it.
    pub fn new(kind: &PageKind) -> Result<Self> {
        let room = Room::new(kind.bytes)?;
        LIVE.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            memory: Arc::new(Memory {
                room,
                written_in: AtomicU64::new(0),
                writers: AtomicUsize::new(0),
                readers: AtomicUsize::new(0),
            }),
            life: PhantomData,
        })
    }

    /// Whether operations that have not run yet, or other handles, have it.
    pub fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.memory) > 1
    }
}

/// Pages of one kind: those of all layers that keep the same tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageKind {
    /// Tokens that the layers see; all if `None`.
    pub window: Option<i32>,
    /// Bytes of a page.
    pub bytes: usize,
}

/// Where a layer's keys and values are: the kind of its pages, and the places in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) kind: usize,
    pub(crate) keys: Place,
    pub(crate) values: Place,
}

/// What a model's pages hold.
#[derive(Clone, Debug)]
pub struct PageMap {
    kinds: Vec<PageKind>,
    /// Of each state of the model.
    states: Vec<Placed>,
    heads: Vec<Heads>,
    slots: SlotMap,
    /// Whether rows see those behind them.
    bidirectional: bool,
}

impl PageMap {
    /// For states with these key heads and windows, and recurrent ones. `None` where kernels lack the element type.
    pub fn new(states: &[(Heads, Option<i32>)], slots: SlotMap) -> Option<Self> {
        let mut kinds: Vec<PageKind> = Vec::new();
        let mut placed = Vec::with_capacity(states.len());
        for (heads, window) in states {
            let known = kinds.iter().position(|kind| kind.window == *window);
            let kind = known.unwrap_or(kinds.len());
            if known.is_none() {
                kinds.push(PageKind {
                    window: *window,
                    bytes: 0,
                });
            }
            let offset = kinds[kind].bytes;
            let keys = Place {
                offset,
                heads: heads.count.max(0) as usize,
                dim: heads.dim.max(0) as usize,
                dtype: dtype(heads.dtype)?,
            };
            let values = Place {
                offset: offset + keys.bytes(),
                ..keys
            };
            kinds[kind].bytes += 2 * keys.bytes();
            placed.push(Placed { kind, keys, values });
        }
        Some(Self {
            kinds,
            states: placed,
            heads: states.iter().map(|(heads, _)| *heads).collect(),
            slots,
            bidirectional: false,
        })
    }

    /// The same, of a model whose rows see those behind them too: all, or the ones less than a window away. A
    /// sequence is one pass then.
    pub fn bidirectional(mut self, is: bool) -> Self {
        self.bidirectional = is;
        self
    }

    /// The kinds of pages.
    pub fn kinds(&self) -> &[PageKind] {
        &self.kinds
    }

    /// The kind of pages that a state's keys and values are in.
    pub fn kind_of(&self, state: usize) -> usize {
        self.states[state].kind
    }

    /// Where the recurrent states of all layers are.
    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    /// Key heads of each state.
    pub fn heads(&self) -> &[Heads] {
        &self.heads
    }

    pub(crate) fn placed(&self, state: usize) -> Option<&Placed> {
        self.states.get(state)
    }

    /// What rows that follow each other see of a state.
    pub(crate) fn mask(&self, placed: &Placed) -> MaskView<'static> {
        let window = self.kinds[placed.kind].window;
        let window = window.map(|width| width.max(0) as usize);
        match (window, self.bidirectional) {
            (Some(width), false) => MaskView::Window(width),
            (None, false) => MaskView::Causal,
            (Some(width), true) => MaskView::Around(width),
            (None, true) => MaskView::None,
        }
    }
}

/// New tokens of a sequence, and where it has its keys and values.
#[derive(Clone, Debug)]
pub struct Segment {
    /// How many.
    pub rows: i32,
    /// The position of the first.
    pub position: i32,
    /// Of each kind of the map.
    pub kinds: Vec<PageList>,
    /// Of recurrent states, if the map has such and rows are new.
    pub slots: Option<SlotPages>,
    /// A result of the last operation that used the pages.
    pub after: Option<Rc<Array>>,
}

/// The pages of one kind of a sequence.
#[derive(Clone, Debug)]
pub struct PageList {
    /// In the order of their tokens, with room for the new ones.
    pub pages: Vec<Page>,
    /// The position of the first page's first token, a multiple of [`PAGE`].
    pub first: i32,
    /// A page that others have too, and tokens of it: they are copied first to the one in the list that takes its
    /// place.
    pub copied: Option<(Page, i32)>,
}

/// [`Segment`], for a closure.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) rows: usize,
    pub(crate) position: usize,
    kinds: Vec<HeldKind>,
    slots: Option<HeldSlots>,
    /// Whether its pages know that it will write them.
    writes: bool,
}

#[derive(Debug)]
struct HeldKind {
    pages: Vec<Arc<Memory>>,
    first: usize,
    /// The page to copy, to which of the list, and how many tokens.
    copied: Option<(Arc<Memory>, usize, usize)>,
    bytes: usize,
}

/// All segments of an operation, for its closure.
///
/// # Errors
/// When the new tokens have no room, or a page that is to be written is used by another segment as well.
pub(crate) fn held(map: &PageMap, segments: &[Segment]) -> Result<Vec<Held>> {
    let held: Option<Vec<Held>> = segments.iter().map(|s| Held::of(map, s)).collect();
    let mut held = held.filter(|held| are_apart(held));
    held.iter_mut().flatten().for_each(Held::announce);
    held.ok_or_else(|| Error::Native("pages: segments have no room of their own".to_owned()))
}

/// Whether nobody touches the pages that a segment writes but this segment.
fn are_apart(segments: &[Held]) -> bool {
    static OPERATIONS: AtomicU64 = AtomicU64::new(0);
    let this = OPERATIONS.fetch_add(1, Ordering::Relaxed) + 1;
    let mut apart = true;
    for page in segments.iter().flat_map(Held::written) {
        // Each is written once only, and by nobody as long as others read it.
        apart &= page.written_in.swap(this, Ordering::Relaxed) != this;
        apart &= page.readers.load(Ordering::Acquire) == 0;
    }
    let is_written = |page: &Arc<Memory>| page.written_in.load(Ordering::Relaxed) == this;
    for (pages, new) in segments.iter().flat_map(Held::parts) {
        apart &= !pages[..new].iter().any(is_written);
    }
    let mut old = segments.iter().filter_map(Held::old_slot);
    apart &= !old.any(is_written);
    let copied = segments.iter().flat_map(|s| &s.kinds);
    let mut copied = copied.filter_map(|kind| kind.copied.as_ref());
    apart && !copied.any(|(page, ..)| is_written(page))
}

impl Held {
    fn of(map: &PageMap, segment: &Segment) -> Option<Self> {
        let at = |n: i32| usize::try_from(n).ok();
        let (rows, position) = (at(segment.rows)?, at(segment.position)?);
        let mut kinds = Vec::with_capacity(segment.kinds.len());
        for (list, kind) in segment.kinds.iter().zip(&map.kinds) {
            let first = at(list.first).filter(|n| n.is_multiple_of(PAGE))?;
            let pages: Vec<_> = list.pages.iter().map(|p| Arc::clone(&p.memory)).collect();
            let fits = position + rows <= first + pages.len() * PAGE
                && pages.iter().all(|page| page.room.len() >= kind.bytes);
            let copied = match &list.copied {
                Some((page, tokens)) if page.memory.room.len() >= kind.bytes => {
                    let tokens = at(*tokens).filter(|n| (1..=PAGE).contains(n))?;
                    let page_of = position.checked_sub(first)? / PAGE;
                    Some((Arc::clone(&page.memory), page_of, tokens))
                }
                Some(_) => return None,
                None => None,
            };
            if !fits {
                return None;
            }
            kinds.push(HeldKind {
                pages,
                first,
                copied,
                bytes: kind.bytes,
            });
        }
        let slots = match &segment.slots {
            Some(slots) => Some(HeldSlots::of(&map.slots, slots, rows)?),
            // Without new rows nobody reads them.
            None if rows == 0 || map.slots.is_empty() => None,
            None => return None,
        };
        (kinds.len() == map.kinds.len()).then_some(Self {
            rows,
            position,
            kinds,
            slots,
            writes: false,
        })
    }

    /// Tells the pages that it will write them, until it is dropped: when it has run, or will not.
    fn announce(&mut self) {
        self.writes = true;
        for page in self.written() {
            page.writers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The pages that it writes.
    fn written(&self) -> impl Iterator<Item = &Arc<Memory>> {
        let pages = self.parts().flat_map(|(pages, new)| &pages[new..]);
        pages.chain(self.new_slots())
    }

    /// The pages of recurrent states that are written.
    fn new_slots(&self) -> impl Iterator<Item = &Arc<Memory>> {
        self.slots.iter().flat_map(HeldSlots::written)
    }

    /// The one that is read.
    fn old_slot(&self) -> Option<&Arc<Memory>> {
        self.slots.as_ref()?.before()
    }

    /// Where the recurrent states are, if there are any.
    ///
    /// # Safety
    /// Only in the closure of the operation that [`held`] made this for.
    pub(crate) unsafe fn slots(&self) -> Option<Slots<'_>> {
        // SAFETY: the pages live as long as this. What else touches them is another operation of this thread's
        // stream, which does not run now: no other segment of this one writes them.
        self.slots
            .as_ref()
            .map(|slots| unsafe { slots.addresses() })
    }

    /// The pages of each kind, and the first of them that is written.
    fn parts(&self) -> impl Iterator<Item = (&[Arc<Memory>], usize)> {
        self.kinds.iter().map(|kind| {
            let new = self.position.saturating_sub(kind.first) / PAGE;
            (&kind.pages[..], new.min(kind.pages.len()))
        })
    }

    /// The first page's first position, of a kind.
    pub(crate) fn first(&self, kind: usize) -> usize {
        self.kinds[kind].first
    }

    /// Where the pages of each kind are.
    ///
    /// # Safety
    /// Only in the closure of the operation that [`held`] made this for.
    pub(crate) unsafe fn addresses(&self) -> Vec<Addresses<'_>> {
        let address = |page: &Arc<Memory>| Shared::new(page.room.as_ptr());
        let of_kind = |kind: &HeldKind| {
            let list = kind.pages.iter().map(address).collect();
            // SAFETY: the pages live as long as this, and have so many bytes. What else touches them is
            // another operation of this thread's stream, which does not run now, or another segment of this
            // one, which does not write them; and what this one writes no other segment reads.
            unsafe { Addresses::from_raw(list, kind.bytes) }
        };
        self.kinds.iter().map(of_kind).collect()
    }

    /// Copies what is to be copied before anything is written.
    pub(crate) fn copy(
        &self,
        cpu: &Cpu,
        map: &PageMap,
        to: &mut [Addresses<'_>],
    ) -> std::result::Result<(), Failure> {
        for (i, (kind, to)) in self.kinds.iter().zip(to).enumerate() {
            let Some((from, page, tokens)) = &kind.copied else {
                continue;
            };
            // SAFETY: the page has so many bytes and lives as long as this; no segment of this operation writes
            // it, and no other operation runs.
            let mut from = unsafe {
                let list = vec![Shared::new(from.room.as_ptr())];
                Addresses::from_raw(list, kind.bytes)
            };
            let (from, mut to) = (from.pages(), to.pages());
            for placed in map.states.iter().filter(|placed| placed.kind == i) {
                for place in [placed.keys, placed.values] {
                    let here = page * PAGE..page * PAGE + tokens;
                    let rows = from.tokens(&place, *tokens)?;
                    for to in to.rows_mut(&place, here)? {
                        copy(cpu, rows.block(0..*tokens), to)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.writes {
            for page in self.written() {
                page.writers.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

/// A result of each operation that the segments come after: those that went together have the same.
pub(crate) fn after(segments: &[Segment]) -> Vec<&Array> {
    let mut results: Vec<&Rc<Array>> = Vec::new();
    for result in segments.iter().filter_map(|s| s.after.as_ref()) {
        if !results.iter().any(|known| Rc::ptr_eq(known, result)) {
            results.push(result);
        }
    }
    results.into_iter().map(Rc::as_ref).collect()
}

/// The pages of a layer, of the addresses of all kinds.
pub(crate) fn pages_of<'a>(addresses: &'a mut [Addresses<'_>], placed: &Placed) -> Pages<'a> {
    addresses[placed.kind].pages()
}
