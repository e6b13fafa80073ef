//! Keys and values in pages.
//!
//! A page holds keys and values of [`PAGE`] tokens, of every layer of a kind. It has one address, and the
//! [`Place`] of a layer's keys in it is the same in all pages: where a sequence's tokens lie is a list of
//! addresses, one for 256 tokens. So a sequence grows without a copy, sequences that begin alike share pages,
//! and a sliding window lets go of those that it has left behind.

pub(crate) mod graph;
pub(crate) mod slots;
pub(crate) mod still;
pub(crate) mod transfer;

use std::marker::PhantomData;
use std::ops::Range;

use crate::error::ensure;
use crate::scratch::Shared;
use crate::{Dtype, Layout, Result, View, ViewMut};

/// Tokens of a page: a multiple of the keys that attention takes at a time.
pub const PAGE: usize = 256;

const OP: &str = "pages";

/// Where the keys, or the values, of a layer are in a page: `[heads, PAGE, dim]`, dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the page's first.
    pub offset: usize,
    /// Key heads.
    pub heads: usize,
    /// Elements of a head.
    pub dim: usize,
    /// Their type.
    pub dtype: Dtype,
}

impl Place {
    /// How many bytes it takes.
    pub const fn bytes(&self) -> usize {
        self.heads * PAGE * self.dim * self.dtype.size()
    }

    const fn layout(&self, rows: usize) -> Layout {
        Layout {
            dtype: self.dtype,
            planes: self.heads,
            rows,
            cols: self.dim,
            plane_stride: PAGE * self.dim,
            row_stride: self.dim,
        }
    }
}

/// The pages of a sequence, in the order of their tokens.
#[derive(Debug)]
pub struct Pages<'a> {
    addresses: &'a [Shared<u8>],
    /// Bytes of each.
    bytes: usize,
    life: PhantomData<&'a mut [u8]>,
}

/// The addresses of some pages.
#[derive(Debug)]
pub struct Addresses<'a> {
    list: Vec<Shared<u8>>,
    /// Bytes of the smallest page.
    bytes: usize,
    life: PhantomData<&'a mut [u8]>,
}

impl<'a> Addresses<'a> {
    /// Of memory that is a page each.
    pub fn new(pages: impl IntoIterator<Item = &'a mut [u8]>) -> Self {
        let mut bytes = usize::MAX;
        let list = pages.into_iter().map(|page| {
            bytes = bytes.min(page.len());
            Shared::new(page.as_mut_ptr())
        });
        Self {
            list: list.collect(),
            bytes,
            life: PhantomData,
        }
    }

    /// Of pages of `bytes` bytes.
    ///
    /// # Safety
    /// Each leads to so many bytes, which live for `'a`. What is read and written through them nothing else
    /// touches meanwhile.
    pub(crate) unsafe fn from_raw(list: Vec<Shared<u8>>, bytes: usize) -> Self {
        Self {
            list,
            bytes,
            life: PhantomData,
        }
    }

    /// The pages, for as long as the addresses are borrowed.
    pub fn pages(&mut self) -> Pages<'_> {
        Pages {
            addresses: &self.list,
            bytes: self.bytes,
            life: PhantomData,
        }
    }
}

impl Pages<'_> {
    /// The first `count` tokens of a layer.
    ///
    /// # Errors
    /// When there are not so many pages, or the place is not within them.
    pub fn tokens(&self, place: &Place, count: usize) -> Result<Tokens<'_>> {
        self.check(place, count)?;
        Ok(Tokens {
            pieces: self.addresses,
            offset: place.offset,
            shift: PAGE.trailing_zeros(),
            layout: place.layout(count),
        })
    }

    /// Tokens `range` of a layer, to write: those of a page each.
    ///
    /// # Errors
    /// As [`Pages::tokens`].
    pub fn rows_mut(&mut self, place: &Place, range: Range<usize>) -> Result<Vec<ViewMut<'_>>> {
        self.check(place, range.end)?;
        let parts = by_page(range).map(|(page, rows)| {
            let layout = place.layout(rows.len());
            let first = rows.start * place.dim * place.dtype.size();
            let data = self.addresses[page]
                .get()
                .wrapping_add(place.offset + first);
            // SAFETY: there are so many pages, each with this place in it, as was just checked; the rows are
            // within a page, and this has the pages to write for as long as the views live. No row is in
            // two of them.
            unsafe { ViewMut::from_raw(data, layout) }
        });
        Ok(parts.collect())
    }

    fn check(&self, place: &Place, count: usize) -> Result<()> {
        let there = self.addresses.len() * PAGE;
        ensure!(OP, count <= there, "{count} tokens in pages of {there}");
        let end = place.offset.saturating_add(place.bytes());
        ensure!(
            OP,
            count == 0 || end <= self.bytes,
            "{place:?} in pages of {} bytes",
            self.bytes
        );
        Ok(())
    }
}

/// The pages that `range` is in, each with its rows.
pub(crate) fn by_page(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let pages = match range.is_empty() {
        true => 0..0,
        false => range.start / PAGE..range.end.div_ceil(PAGE),
    };
    pages.map(move |page| {
        let first = page * PAGE;
        let rows = range.start.max(first)..range.end.min(first + PAGE);
        (page, rows.start - first..rows.end - first)
    })
}

/// Keys, or values, `[heads, tokens, dim]`, that lie in one piece or in pages.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Addresses of the pieces.
    pieces: &'a [Shared<u8>],
    /// Bytes from each to the first plane.
    offset: usize,
    /// A piece has `2^shift` rows.
    shift: u32,
    layout: Layout,
}

impl<'a> Tokens<'a> {
    /// Those of a view whose address is `piece`.
    pub(crate) fn of(view: &View<'a>, piece: &'a [Shared<u8>; 1]) -> Self {
        Self {
            pieces: piece,
            offset: 0,
            shift: usize::BITS - 1,
            layout: *view.layout(),
        }
    }

    /// Sizes, and strides within a piece.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The address of a row's first element.
    #[inline(always)]
    pub(crate) fn row(&self, plane: usize, row: usize) -> *const u8 {
        let l = &self.layout;
        debug_assert!(
            plane < l.planes && row < l.rows,
            "row {plane}, {row} of {l:?}"
        );
        let piece = self.pieces[row >> self.shift].get().cast_const();
        let row = row & ((1 << self.shift) - 1);
        let elements = plane * l.plane_stride + row * l.row_stride;
        piece.wrapping_add(self.offset + elements * l.dtype.size())
    }

    /// Rows `range`, which lie in one piece and are not none.
    #[inline(always)]
    pub(crate) fn block(&self, range: Range<usize>) -> View<'a> {
        debug_assert_eq!(range.start >> self.shift, (range.end - 1) >> self.shift);
        let layout = Layout {
            rows: range.len(),
            ..self.layout
        };
        // SAFETY: whoever made this had so many rows to read for `'a`.
        unsafe { View::from_raw(self.row(0, range.start), layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_where_pages_end() {
        let parts = |range| by_page(range).collect::<Vec<_>>();
        assert_eq!(parts(5..5), []);
        assert_eq!(parts(256..256), []);
        assert_eq!(parts(3..256), [(0, 3..256)]);
        assert_eq!(
            parts(255..769),
            [(0, 255..256), (1, 0..256), (2, 0..256), (3, 0..1)]
        );
    }

    #[test]
    fn what_is_not_in_the_pages_is_refused() {
        let place = |offset| Place {
            offset,
            heads: 2,
            dim: 4,
            dtype: Dtype::F32,
        };
        let bytes = 2 * place(0).bytes();
        let mut memory = [vec![0; bytes], vec![0; bytes]];
        let mut addresses = Addresses::new(memory.iter_mut().map(Vec::as_mut_slice));
        let mut pages = addresses.pages();
        assert!(pages.tokens(&place(bytes / 2), 512).is_ok());
        assert!(pages.tokens(&place(bytes / 2 + 1), 512).is_err());
        assert!(pages.tokens(&place(0), 513).is_err());
        assert!(pages.rows_mut(&place(0), 500..512).is_ok());
        assert!(pages.rows_mut(&place(0), 500..513).is_err());
    }
}
