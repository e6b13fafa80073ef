//! Scaled dot-product attention: `softmax(scale · q kᵀ + mask) v`, head by head; in some models scores are
//! squashed before the mask.
//!
//! The matrix of scores never exists: keys are taken a block at a time, and the softmax is carried
//! along (the running maximum and sum of Milakov and Gimelshein's online softmax). Scores, softmax
//! and sums are float32. Query heads that share a key head (GQA) share the pass over its keys and
//! values: a decode step ([`few`]) reads those once, at the speed of memory, and a prefill
//! ([`many`]) packs a block of them once for many queries.

pub(crate) mod array_mask;
pub mod cuda;
mod few;
pub(crate) mod graph;
mod many;
mod mask;
mod softmax;

pub use mask::MaskView;

use std::ops::Range;

use crate::error::ensure;
use crate::pages::Tokens;
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

/// The most query rows of a key head (queries times the heads that share it) that are not tiled.
const FEW: usize = 16;

/// What becomes of `q kᵀ` before the mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// It is multiplied by this.
    pub scale: f32,
    /// Then squashed to this range: `cap · tanh(score / cap)`.
    pub softcap: Option<f32>,
}

impl From<f32> for Scores {
    fn from(scale: f32) -> Self {
        Self {
            scale,
            softcap: None,
        }
    }
}

/// Which keys are weighed, and what beside them.
#[derive(Clone, Copy, Debug)]
pub struct Weighed<'a> {
    /// The keys.
    pub mask: MaskView<'a>,
    /// A score of each query head, Hq, that joins those of the keys, and whose weight is given to no value
    /// (gpt-oss).
    pub sinks: Option<&'a [f32]>,
}

impl<'a> From<MaskView<'a>> for Weighed<'a> {
    fn from(mask: MaskView<'a>) -> Self {
        Self { mask, sinks: None }
    }
}

/// The arguments of an attention, checked.
#[derive(Clone, Copy)]
struct Attention<'a> {
    q: View<'a>,
    k: Tokens<'a>,
    v: Tokens<'a>,
    out: Rows<'a>,
    scores: Scores,
    mask: MaskView<'a>,
    sinks: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// Query heads that share a key head.
    fn group(&self) -> usize {
        self.q.layout().planes / self.k.layout().planes
    }

    /// Queries of a head: L.
    fn queries(&self) -> usize {
        self.q.layout().rows
    }

    /// Keys of a head: S.
    fn keys(&self) -> usize {
        self.k.layout().rows
    }

    /// Keys that some of `queries` may see. Where blocks of them begin depends on the position of keys alone,
    /// and not on who sees which: sums of a row have one order.
    fn seen(&self, queries: Range<usize>) -> Range<usize> {
        let (all, keys) = (self.queries(), self.keys());
        let ranges = queries.map(|query| self.mask.range(query, all, keys));
        ranges.fold(keys..0, |seen, range| {
            seen.start.min(range.start)..seen.end.max(range.end)
        })
    }

    /// The score of a query head that has no value.
    fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.and_then(|sinks| sinks.get(head)).copied()
    }

    /// Elements of a head: D.
    fn dim(&self) -> usize {
        self.q.layout().cols
    }
}

/// Attention of `q` `[Hq, L, D]` to `k` and `v` `[Hkv, S, D]`, into `out` `[Hq, L, D]`. Query head
/// `h` attends to key head `h / (Hq / Hkv)`. Any strides (a slice of a cache, heads inside rows)
/// and any element types, of which `k` and `v` share one.
///
/// A query that sees no key gets zeros.
///
/// # Errors
/// When the sizes disagree, or `Hq` is not a multiple of `Hkv`.
pub fn attention<'a>(
    cpu: &Cpu,
    q: View<'_>,
    k: View<'_>,
    v: View<'_>,
    scores: impl Into<Scores>,
    seen: impl Into<Weighed<'a>>,
    out: ViewMut<'_>,
) -> Result<()> {
    let (k_piece, v_piece) = ([k.address()], [v.address()]);
    let (k, v) = (Tokens::of(&k, &k_piece), Tokens::of(&v, &v_piece));
    attention_in_pages(cpu, q, k, v, scores, seen, out)
}

/// [`attention`] to keys and values that may lie in pages. The result is the same to the bit.
///
/// # Errors
/// As [`attention`].
pub fn attention_in_pages<'a>(
    cpu: &Cpu,
    q: View<'_>,
    k: Tokens<'_>,
    v: Tokens<'_>,
    scores: impl Into<Scores>,
    seen: impl Into<Weighed<'a>>,
    mut out: ViewMut<'_>,
) -> Result<()> {
    let op = "attention";
    let Weighed { mask, sinks } = seen.into();
    let (ql, kl, vl, ol) = (q.layout(), k.layout(), v.layout(), out.layout());
    ensure!(
        op,
        ql.shape() == ol.shape(),
        "q is {:?}, out {:?}",
        ql.shape(),
        ol.shape()
    );
    ensure!(
        op,
        kl.shape() == vl.shape(),
        "k is {:?}, v {:?}",
        kl.shape(),
        vl.shape()
    );
    ensure!(
        op,
        kl.dtype == vl.dtype,
        "k is {:?}, v {:?}",
        kl.dtype,
        vl.dtype
    );
    ensure!(
        op,
        ql.cols == kl.cols,
        "q has {} columns, k {}",
        ql.cols,
        kl.cols
    );
    ensure!(
        op,
        kl.planes > 0 && ql.planes.is_multiple_of(kl.planes),
        "{} query heads cannot share {} key heads",
        ql.planes,
        kl.planes
    );
    ensure!(
        op,
        sinks.is_none_or(|sinks| sinks.len() == ql.planes),
        "{:?} sinks for {} query heads",
        sinks.map(<[f32]>::len),
        ql.planes
    );
    mask.check(ql.rows, kl.rows)?;
    if ql.planes == 0 || ql.rows == 0 || ql.cols == 0 {
        return Ok(());
    }
    let attention = Attention {
        q,
        k,
        v,
        out: out.rows(),
        scores: scores.into(),
        mask,
        sinks,
    };
    if attention.group() * attention.queries() <= FEW {
        few::attend(cpu, &attention);
    } else {
        many::attend(cpu, &attention);
    }
    Ok(())
}
