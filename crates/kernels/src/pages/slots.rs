//! Pages of recurrent states: one holds those of all layers behind some token.
//!
//! A page is written once, by the pass that its tokens came in; later passes read it and write others. So what a
//! sequence was some time ago is a page that it keeps, and one that begins as another does has the same page.

use std::marker::PhantomData;
use std::sync::Arc;

use super::graph::{Memory, Page, PageKind};
use crate::delta::net::{Sequence, Sizes, StateView, StateViewMut};
use crate::scratch::Shared;
use crate::{Dtype, Layout, View, ViewMut};

/// Parts of a page begin at whole cache lines.
const LINE: usize = 64;

/// Where a layer's state is in a page: the tail of its convolution, and behind it the matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotPlace {
    sizes: Sizes,
    dtype: Dtype,
    tail: usize,
    matrices: usize,
}

impl SlotPlace {
    /// Of both parts.
    fn layouts(&self) -> [Layout; 2] {
        let s = &self.sizes;
        let matrices = Layout {
            dtype: Dtype::F32,
            planes: s.heads,
            rows: s.key_dim,
            cols: s.value_dim,
            plane_stride: s.key_dim * s.value_dim,
            row_stride: s.value_dim,
        };
        [Layout::matrix(self.dtype, s.tail(), s.channels()), matrices]
    }
}

/// What a page of recurrent states holds.
#[derive(Clone, Debug)]
pub struct SlotMap {
    places: Vec<SlotPlace>,
    kind: PageKind,
}

impl SlotMap {
    /// For the states of nets of these sizes, with activations of `dtype`. `None` where kernels lack it, or
    /// there is more than can be counted.
    pub fn new(nets: &[Sizes], dtype: mlx_core::Dtype) -> Option<Self> {
        let dtype = crate::arrays::dtype(dtype)?;
        let mut bytes = 0_usize;
        let mut places = Vec::with_capacity(nets.len());
        for sizes in nets {
            let mut place = SlotPlace {
                sizes: *sizes,
                dtype,
                tail: bytes,
                matrices: 0,
            };
            let [tail, matrices] = place.layouts();
            let end = bytes.checked_add(tail.bytes()?)?;
            place.matrices = end.checked_next_multiple_of(LINE)?;
            let end = place.matrices.checked_add(matrices.bytes()?)?;
            bytes = end.checked_next_multiple_of(LINE)?;
            places.push(place);
        }
        let kind = PageKind {
            window: None,
            bytes,
        };
        Some(Self { places, kind })
    }

    /// Whether there are no such states.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The kind of their pages.
    pub fn kind(&self) -> &PageKind {
        &self.kind
    }

    pub(crate) fn place(&self, state: usize) -> Option<&SlotPlace> {
        self.places.get(state)
    }
}

/// The pages of recurrent states that a pass reads and writes.
#[derive(Clone, Debug)]
pub struct SlotPages {
    /// In front of the new rows; none of a sequence that begins.
    pub before: Option<Page>,
    /// Behind them.
    pub behind: Page,
    /// Behind some of them, how many, fewer than all.
    pub aligned: Option<(i32, Page)>,
}

/// [`SlotPages`], for a closure.
#[derive(Debug)]
pub(crate) struct HeldSlots {
    before: Option<Arc<Memory>>,
    behind: Arc<Memory>,
    aligned: Option<(usize, Arc<Memory>)>,
}

impl HeldSlots {
    /// `None` where a page is too small, or rows are not among the new ones.
    pub(super) fn of(map: &SlotMap, pages: &SlotPages, rows: usize) -> Option<Self> {
        let memory = |page: &Page| {
            let fits = page.memory.room.len() >= map.kind.bytes;
            fits.then(|| Arc::clone(&page.memory))
        };
        let before = match &pages.before {
            Some(page) => Some(memory(page)?),
            None => None,
        };
        let aligned = match &pages.aligned {
            Some((some, page)) => {
                let some = usize::try_from(*some).ok();
                let some = some.filter(|some| (1..rows).contains(some))?;
                Some((some, memory(page)?))
            }
            None => None,
        };
        Some(Self {
            before,
            behind: memory(&pages.behind)?,
            aligned,
        })
    }

    pub(super) fn before(&self) -> Option<&Arc<Memory>> {
        self.before.as_ref()
    }

    pub(super) fn written(&self) -> impl Iterator<Item = &Arc<Memory>> {
        let aligned = self.aligned.iter().map(|(_, page)| page);
        aligned.chain([&self.behind])
    }

    /// # Safety
    /// As long as the addresses live nobody else writes these pages, or reads those behind the new rows.
    pub(super) unsafe fn addresses(&self) -> Slots<'_> {
        let address = |page: &Arc<Memory>| Shared::new(page.room.as_ptr());
        Slots {
            before: self.before.as_ref().map(address),
            behind: address(&self.behind),
            aligned: self
                .aligned
                .as_ref()
                .map(|(rows, page)| (*rows, address(page))),
            life: PhantomData,
        }
    }
}

/// Where the recurrent states of a segment are.
#[derive(Debug)]
pub(crate) struct Slots<'a> {
    before: Option<Shared<u8>>,
    behind: Shared<u8>,
    aligned: Option<(usize, Shared<u8>)>,
    life: PhantomData<&'a mut [u8]>,
}

impl Slots<'_> {
    /// Of one layer, for `rows` new ones, which are all of the segment's.
    pub(crate) fn sequence(&mut self, place: &SlotPlace, rows: usize) -> Sequence<'_> {
        let [tail, matrices] = place.layouts();
        let at = |page: Shared<u8>, offset: usize| page.get().wrapping_add(offset);
        // SAFETY: the pages have these places in them, by `HeldSlots::of`, and this has them to itself for as long
        // as the views live; no two of the places overlap.
        let written = |page: Shared<u8>| unsafe {
            StateViewMut {
                tail: ViewMut::from_raw(at(page, place.tail), tail),
                matrices: ViewMut::from_raw(at(page, place.matrices), matrices),
            }
        };
        // SAFETY: as above; the page is another than those that are written.
        let read = |page: Shared<u8>| unsafe {
            StateView {
                tail: View::from_raw(at(page, place.tail), tail),
                matrices: View::from_raw(at(page, place.matrices), matrices),
            }
        };
        Sequence {
            rows,
            before: self.before.map(read),
            behind: written(self.behind),
            aligned: self.aligned.map(|(rows, page)| (rows, written(page))),
        }
    }
}
