//! Which keys a query sees.

use std::ops::Range;

use crate::Result;
use crate::error::ensure;

/// Which of S keys each of L queries sees. The last query belongs to the last key.
#[derive(Clone, Copy, Debug)]
pub enum MaskView<'a> {
    /// Every query sees every key.
    None,
    /// Query `i` sees the keys up to `S - L + i`.
    Causal,
    /// Query `i` sees, of the keys up to `S - L + i`, the last so many: a sliding window.
    Window(usize),
    /// Query `i` sees the keys that are less than so far from `S - L + i`, on either side.
    Around(usize),
    /// Query `i` sees key `j` where byte `i * stride + j` is not zero, in every head.
    Rows {
        /// The bytes.
        allowed: &'a [u8],
        /// Bytes from one query to the next.
        stride: usize,
    },
}

impl MaskView<'_> {
    pub(super) fn check(&self, queries: usize, keys: usize) -> Result<()> {
        if let MaskView::Rows { allowed, stride } = self {
            let needed = queries
                .saturating_sub(1)
                .saturating_mul(*stride)
                .saturating_add(keys);
            ensure!(
                "attention",
                queries == 0 || allowed.len() >= needed,
                "a mask of {} bytes for {queries} queries and {keys} keys, {stride} apart",
                allowed.len()
            );
        }
        Ok(())
    }

    /// The keys that query `i` of `queries` may see; [`MaskView::hides`] has exceptions.
    pub(super) fn range(&self, i: usize, queries: usize, keys: usize) -> Range<usize> {
        let end = (keys + i + 1).saturating_sub(queries);
        match *self {
            MaskView::None | MaskView::Rows { .. } => 0..keys,
            MaskView::Causal => 0..end,
            MaskView::Window(size) => end.saturating_sub(size)..end,
            MaskView::Around(size) => {
                let behind = (keys + i).saturating_add(size).saturating_sub(queries);
                end.saturating_sub(size)..behind.min(keys)
            }
        }
    }

    /// Whether query `i` does not see key `j` of its range.
    pub(super) fn hides(&self, i: usize, j: usize) -> bool {
        match self {
            MaskView::Rows { allowed, stride } => allowed[i * stride + j] == 0,
            _ => false,
        }
    }

    /// Whether [`MaskView::hides`] is ever true.
    pub(super) fn has_holes(&self) -> bool {
        matches!(self, MaskView::Rows { .. })
    }
}
