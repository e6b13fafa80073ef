//! A decoder block as one operation: attention and feed-forward, with the norms and residual sums
//! around them.
//!
//! It does what the operations it calls do, one after the other, and rounds to the element type of
//! the residual stream where they do. What it saves is everything between them: as a node each,
//! they cost a third of a decode step in queueing, and in a prefill their results are megabytes that
//! the allocator maps and unmaps. Here results live in [`Scratch`], and the new keys and values
//! are written where the cache wants them.

mod altup;
mod both;
mod delta;
pub(crate) mod graph;
mod mixer;
mod own_input;

pub use altup::{AltUp, Laurel};
pub use both::Both;
pub use mixer::{Attention, DeltaInputs, DeltaNet, Mixer};
pub use own_input::OwnInput;

use std::sync::{Mutex, PoisonError};

use crate::add::multiply;
use crate::attention::{MaskView, Weighed, attention_in_pages};
use crate::delta::net::Sequence;
use crate::error::ensure;
use crate::experts::{Each, Experts, experts};
use crate::gated::gate_by_sigmoid;
use crate::linear::{Intermediate, LinearView, product, products};
use crate::mlp::{Gated, gated_mlp};
use crate::pages::{Pages, Place};
use crate::rms_norm::{Addend, NormView, add_norm, add_rms_norm, rms_norm};
use crate::rope::{RotationView, rope, rope_in_parts};
use crate::vector::copy;
use crate::{Cpu, Error, View, ViewMut};

type Result<T, E = Error> = std::result::Result<T, E>;

const OP: &str = "block";

/// The part of a block that does not mix positions: `W` is a linear map, `N` a norm, `E` all experts of a
/// mixture.
#[derive(Clone, Copy, Debug)]
pub enum Mlp<W, N, E> {
    /// One for all rows.
    Gated(Gated<W>),
    /// Many, of which each row has a few.
    Experts(Experts<W, N, E>),
    /// One for all rows, and many.
    Both(Both<W, N, E>),
}

impl<W, N, E> Mlp<W, N, E> {
    /// The one that all rows have, if there is nothing else.
    pub fn gated(&self) -> Option<&Gated<W>> {
        match self {
            Self::Gated(mlp) => Some(mlp),
            Self::Experts(_) | Self::Both(_) => None,
        }
    }
}

/// The weights of a block, and how it computes: `W` is a linear map, `N` a norm, `R` a rotation, `E` all experts
/// of a mixture, `F` a list of floats, each as memory ([`block`]), as arrays or pinned ([`graph`]).
#[derive(Clone, Debug)]
pub struct Block<W, N, R, E, F> {
    /// Where rows are several streams, what makes one of them and back (Gemma 3n).
    pub altup: Option<AltUp<W, N>>,
    /// Of what the mixer sees.
    pub attention_norm: N,
    /// What mixes positions.
    pub mixer: Mixer<W, N, R, F>,
    /// Of what the mixer gives: `[hidden, Hq · D]`.
    pub output: W,
    /// Of the mixer's output, before it is added (Gemma).
    pub attended_norm: Option<N>,
    /// Of what the feed-forward layer sees.
    pub mlp_norm: N,
    /// The feed-forward layer.
    pub mlp: Mlp<W, N, E>,
    /// Of the feed-forward layer's output, before it is added (Gemma).
    pub mlp_out_norm: Option<N>,
    /// What is added of the block's own input of each row (Gemma 4).
    pub own_input: Option<OwnInput<W, N>>,
    /// What the result is multiplied by.
    pub scale: Option<f32>,
}

impl<W, N, R, E, F> Block<W, N, R, E, F> {
    /// The same block with its parts as something else.
    pub(crate) fn try_map<'a, W2, N2, R2, E2, F2, X>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, X>,
        norm: impl Fn(&'a N) -> Result<N2, X>,
        rotation: impl Fn(&'a R) -> Result<R2, X>,
        each: impl Fn(&'a E) -> Result<E2, X>,
        floats: impl Fn(&'a F) -> Result<F2, X>,
    ) -> Result<Block<W2, N2, R2, E2, F2>, X> {
        Ok(Block {
            altup: match &self.altup {
                Some(altup) => Some(altup.try_map(&weight, &norm)?),
                None => None,
            },
            attention_norm: norm(&self.attention_norm)?,
            mixer: self.mixer.try_map(&weight, &norm, rotation, floats)?,
            output: weight(&self.output)?,
            attended_norm: self.attended_norm.as_ref().map(&norm).transpose()?,
            mlp_norm: norm(&self.mlp_norm)?,
            mlp: match &self.mlp {
                Mlp::Gated(mlp) => Mlp::Gated(mlp.try_map(&weight)?),
                Mlp::Experts(mlp) => Mlp::Experts(mlp.try_map(&weight, &norm, each)?),
                Mlp::Both(mlp) => Mlp::Both(mlp.try_map(&weight, &norm, each)?),
            },
            mlp_out_norm: self.mlp_out_norm.as_ref().map(&norm).transpose()?,
            own_input: match &self.own_input {
                Some(input) => Some(input.try_map(&weight, &norm)?),
                None => None,
            },
            scale: self.scale,
        })
    }
}

/// A block whose parts are memory.
pub type BlockView<'a> =
    Block<LinearView<'a>, NormView<'a>, RotationView<'a>, &'a dyn Each, &'a [f32]>;

/// An attention whose parts are memory.
pub type AttentionView<'a> = Attention<LinearView<'a>, NormView<'a>, RotationView<'a>>;

/// Where the keys and values of a block are: in pages, of the element type of the residual stream.
#[derive(Debug)]
pub struct SlotView<'a> {
    /// Those of the sequence.
    pub pages: Pages<'a>,
    /// Rotated keys.
    pub keys: Place,
    /// Values.
    pub values: Place,
    /// The row of the first new token, counted from that of the first page.
    pub start: usize,
}

/// Rows of the stream that follow each other in one sequence.
#[derive(Debug)]
pub struct SegmentView<'a> {
    /// How many.
    pub rows: usize,
    /// The position of the first.
    pub position: usize,
    /// Where the sequence's keys and values are.
    pub cache: SlotView<'a>,
    /// What the rows see.
    pub mask: MaskView<'a>,
}

/// The rows of the stream, sequence after sequence: what a block's mixer wants of them.
#[derive(Debug)]
pub enum Segments<'a> {
    /// For attention.
    Keys(Vec<SegmentView<'a>>),
    /// For a gated delta net.
    Recurrent(Vec<Sequence<'a>>),
}

impl Segments<'_> {
    /// How many there are, and their rows together.
    fn sizes(&self) -> [usize; 2] {
        match self {
            Self::Keys(all) => [all.len(), all.iter().map(|one| one.rows).sum()],
            Self::Recurrent(all) => [all.len(), all.iter().map(|one| one.rows).sum()],
        }
    }
}

/// The stream `x` `[L, hidden]`, whose rows are those of the segments, through a block; adds their tokens to
/// the caches. Where a block has several streams, `hidden` is the width of all of them.
///
/// `y` is `[R, hidden]`. R is L; or less if there is one segment: what only its first rows would need is
/// left out, which is for the last block of a prefill that writes keys. `inputs` `[L, ..]` are the inputs of all
/// blocks, for those that have such.
///
/// # Errors
/// When sizes disagree. The caches may have been written then.
pub fn block(
    cpu: &Cpu,
    x: View<'_>,
    block: &BlockView<'_>,
    segments: Segments<'_>,
    inputs: Option<View<'_>>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let (length, hidden) = (x.layout().rows, x.layout().cols);
    let rows = y.layout().rows;
    let [count, all] = segments.sizes();
    ensure!(
        OP,
        all == length && (rows == length || count == 1),
        "{count} segments of {all} rows for x {:?}, of which {rows} are asked for",
        x.layout().shape()
    );
    ensure!(
        OP,
        rows <= length && length > 0 && y.layout().cols == hidden,
        "{rows} rows of y {:?} are asked for x {:?}",
        y.layout().shape(),
        x.layout().shape()
    );
    if let Some(altup) = &block.altup {
        return altup.run(cpu, x, block, segments, inputs, y);
    }
    let dtype = x.layout().dtype;
    let room = |rows: usize, cols: usize| Intermediate::take(dtype, rows, cols);
    let last = length - rows..length;

    let mut mixed = room(rows, hidden);
    {
        let mut h = room(length, hidden);
        rms_norm(cpu, x, block.attention_norm, h.view_mut()?)?;
        mix(cpu, h.view()?, block, segments, mixed.view_mut()?)?;
    }
    let x = x.slice_rows(last.clone())?;
    let (mut sum, mut h) = (room(rows, hidden), room(rows, hidden));
    let addend = Addend {
        x: mixed.view()?,
        norm: block.attended_norm,
    };
    add_rms_norm(
        cpu,
        x,
        addend,
        sum.view_mut()?,
        block.mlp_norm,
        h.view_mut()?,
    )?;
    feed_forward(cpu, block, h.view()?, sum.view()?, mixed.view_mut()?)?;
    let addend = Addend {
        x: mixed.view()?,
        norm: block.mlp_out_norm,
    };
    match &block.own_input {
        None => add_norm(cpu, sum.view()?, addend, y.reborrow())?,
        Some(own) => {
            add_norm(cpu, sum.view()?, addend, h.view_mut()?)?;
            let inputs = inputs.ok_or_else(no_inputs)?;
            own.add(cpu, h.view()?, inputs.slice_rows(last)?, y.reborrow())?;
        }
    }
    if let Some(scale) = block.scale {
        multiply(cpu, y, scale);
    }
    Ok(())
}

fn no_inputs() -> Error {
    Error::Shape {
        op: OP,
        what: "there are no inputs of blocks".to_owned(),
    }
}

/// The rows of `h`, the norm of those of `sum`, through the feed-forward layer.
fn feed_forward(
    cpu: &Cpu,
    block: &BlockView<'_>,
    h: View<'_>,
    sum: View<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    match &block.mlp {
        Mlp::Gated(mlp) => gated_mlp(cpu, h, mlp, y),
        Mlp::Experts(mlp) => experts(cpu, h, mlp, y),
        Mlp::Both(mlp) => mlp.run(cpu, h, sum, y),
    }
}

/// What the mixer gives of the last of the normalized rows `h`: `y` is `[R, hidden]`.
fn mix(
    cpu: &Cpu,
    h: View<'_>,
    block: &BlockView<'_>,
    segments: Segments<'_>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let layout = y.layout();
    let heads = block.output.weight.cols();
    let mut mixed = Intermediate::take(layout.dtype, layout.rows, heads);
    let to = mixed.view_mut()?;
    match (&block.mixer, segments) {
        (Mixer::Attention(by), Segments::Keys(all)) => attend(cpu, h, by, all, to)?,
        (Mixer::Delta(net), Segments::Recurrent(all)) => net.run(cpu, h, all, to)?,
        _ => ensure!(OP, false, "segments that are another mixer's"),
    }
    product(cpu, mixed.view()?, &block.output, y.reborrow())
}

/// The attention of the last of the normalized rows `h`, before its output projection: `y` is `[R, Hq · D]`.
fn attend(
    cpu: &Cpu,
    h: View<'_>,
    block: &AttentionView<'_>,
    segments: Vec<SegmentView<'_>>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let (length, dtype) = (h.layout().rows, h.layout().dtype);
    let rows = y.layout().rows;
    let places = segments.first().map(|s| (s.cache.keys, s.cache.values));
    let (kv_heads, dim) = places.map_or((0, 0), |(keys, _)| (keys.heads, keys.dim));
    let (width, kv_width) = (y.layout().cols, kv_heads * dim);
    // With gates behind them.
    let all_queries = block.queries.weight.rows();
    let as_wide = if block.gated { 2 * width } else { width };
    let fits = |w: &Option<LinearView<'_>>| w.is_none_or(|w| w.weight.rows() == kv_width);
    ensure!(
        OP,
        dim > 0
            && width.is_multiple_of(dim)
            && all_queries == as_wide
            && fits(&block.keys)
            && fits(&block.values),
        "{all_queries} queries a token for {width}, and keys or values that do not fit {kv_heads} heads of {dim}"
    );
    let heads = width / dim;
    let mut queries = Intermediate::take(dtype, rows, all_queries);
    let room = |w: &Option<_>| {
        w.as_ref()
            .map(|_| Intermediate::take(dtype, length, kv_width))
    };
    let (mut keys, mut values) = (room(&block.keys), room(&block.values));
    let mut parts = Vec::with_capacity(3);
    for (w, y) in [(&block.keys, &mut keys), (&block.values, &mut values)] {
        if let (Some(w), Some(y)) = (w, y) {
            parts.push((w, y.view_mut()?));
        }
    }
    if rows == length {
        parts.insert(0, (&block.queries, queries.view_mut()?));
        products(cpu, h, parts)?;
    } else {
        products(cpu, h, parts)?;
        let last = h.slice_rows(length - rows..length)?;
        product(cpu, last, &block.queries, queries.view_mut()?)?;
    }
    // Values that are made from keys are read from them.
    let values = values.as_ref().or(keys.as_ref());

    let both = queries.view()?.heads(heads)?;
    let queries = both.slice_cols(0..dim)?;
    let mut turned = Intermediate::take(dtype, rows, width);
    let mut rest = (turned.view_mut()?, y.reborrow());
    let mut works = Vec::with_capacity(segments.len());
    let mut first = 0;
    for segment in segments {
        let own = first..first + segment.rows;
        first = own.end;
        // Of one segment perhaps the last rows only.
        let asked = own.start.saturating_sub(length - rows)..own.end - (length - rows);
        let (turned, turned_rest) = rest.0.split_rows(asked.len())?;
        let (y, y_rest) = rest.1.split_rows(asked.len())?;
        rest = (turned_rest, y_rest);
        let new = match (&keys, values) {
            (Some(keys), Some(values)) => Some([
                keys.view()?.slice_rows(own.clone())?.heads(kv_heads)?,
                values.view()?.slice_rows(own)?.heads(kv_heads)?,
            ]),
            _ => None,
        };
        works.push(Work {
            queries: queries.slice_rows(asked)?,
            new,
            turned: turned.heads(heads)?,
            y: y.heads(heads)?,
            segment,
        });
    }
    attend_in_each(cpu, block, works)?;
    match block.gated {
        true => gate_by_sigmoid(cpu, both.slice_cols(dim..2 * dim)?, y.heads(heads)?),
        false => Ok(()),
    }
}

/// The attention of one sequence.
struct Work<'a> {
    queries: View<'a>,
    /// Keys and values, unless others have written those of these rows.
    new: Option<[View<'a>; 2]>,
    /// Room for the rotated queries.
    turned: ViewMut<'a>,
    y: ViewMut<'a>,
    segment: SegmentView<'a>,
}

/// One sequence on all threads; of several each on one, which divides it in the same way.
fn attend_in_each(cpu: &Cpu, block: &AttentionView<'_>, works: Vec<Work<'_>>) -> Result<()> {
    if works.len() == 1 {
        return works
            .into_iter()
            .try_for_each(|work| attend_in_one(cpu, block, work));
    }
    let works: Vec<_> = works
        .into_iter()
        .map(|work| Mutex::new(Some(work)))
        .collect();
    let outcome = Mutex::new(Ok(()));
    cpu.pool().run(works.len(), |i| {
        let work = works[i]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let done = work.map_or(Ok(()), |work| attend_in_one(cpu, block, work));
        if done.is_err() {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = done;
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn attend_in_one(cpu: &Cpu, block: &AttentionView<'_>, work: Work<'_>) -> Result<()> {
    let Work {
        mut turned,
        segment,
        ..
    } = work;
    let (length, rows) = (segment.rows, work.queries.layout().rows);
    let SlotView {
        mut pages,
        keys,
        values,
        start,
    } = segment.cache;
    let new = start..start + length;
    let mut rotation = block.rotation;
    rotation.offset += segment.position;
    if let Some([new_keys, new_values]) = work.new {
        let mut key_rows = pages.rows_mut(&keys, new.clone())?;
        rope_in_parts(cpu, new_keys, block.key_norm, rotation, &mut key_rows)?;
        let mut first = 0;
        for rows in pages.rows_mut(&values, new.clone())? {
            let next = first + rows.layout().rows;
            let these = new_values.slice_rows(first..next)?;
            match block.value_norm {
                Some(epsilon) => {
                    let weight = None;
                    rms_norm(cpu, these, NormView { weight, epsilon }, rows)?;
                }
                None => copy(cpu, these, rows)?,
            }
            first = next;
        }
    }
    rotation.offset += length - rows;
    rope(
        cpu,
        work.queries,
        block.query_norm,
        rotation,
        turned.reborrow(),
    )?;
    attention_in_pages(
        cpu,
        turned.as_view(),
        pages.tokens(&keys, new.end)?,
        pages.tokens(&values, new.end)?,
        block.scores,
        Weighed {
            mask: segment.mask,
            sinks: block.sinks.as_deref(),
        },
        work.y,
    )
}
