//! A gated delta net between its linear maps, on plain memory: convolution, norms, the rule and the gated norm.
//!
//! A head of a sequence is one task: it needs no other, and what it makes on the way stays in the cache of its
//! thread, some tokens at a time. All of it is float32, but for what comes in and goes out.

use crate::error::ensure;
use crate::isa::dispatch;
use crate::rms_norm::NormView;
use crate::view::Rows;
use crate::{Cpu, Dtype, Result, View, ViewMut};

use super::head::{Head, Run};

const OP: &str = "delta_net";

/// Sizes of a net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Heads of queries and of keys.
    pub key_heads: usize,
    /// Heads of values, a multiple of that.
    pub heads: usize,
    /// Width of a query, and of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Positions that the convolution sees, its own the last.
    pub width: usize,
}

impl Sizes {
    /// Channels of the convolution: all queries, all keys, all values.
    pub const fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.heads * self.value_dim
    }

    /// Tokens before the next one that the convolution sees.
    pub const fn tail(&self) -> usize {
        self.width.saturating_sub(1)
    }

    const fn shared(&self) -> usize {
        match self.key_heads {
            0 => 0,
            heads => self.heads / heads,
        }
    }
}

/// What a net computes with, beside its linear maps.
#[derive(Clone, Copy, Debug)]
pub struct NetView<'a> {
    /// Its sizes.
    pub sizes: Sizes,
    /// Whether what comes in has the columns of each key head together: its query, its key, its values, their `z`;
    /// and its `b`, its `a`.
    pub by_key_head: bool,
    /// `[width, channels]`: the position itself last.
    pub filter: &'a [f32],
    /// `-exp(decay)` of each head.
    pub decay: &'a [f32],
    /// What is added to `a` of each head.
    pub step: &'a [f32],
    /// Of what a head reads.
    pub norm: NormView<'a>,
}

/// What comes of L tokens.
#[derive(Clone, Copy, Debug)]
pub struct EnteredView<'a> {
    /// All queries, all keys, all values: `[L, channels]`. By key head `[L, channels + heads · value_dim]`, with `z`.
    pub mixed: View<'a>,
    /// `[L, heads · value_dim]`, or the same as `mixed`.
    pub z: View<'a>,
    /// `[L, heads]`, or `[L, 2 · heads]` with `a`.
    pub b: View<'a>,
    /// `[L, heads]`, or the same as `b`.
    pub a: View<'a>,
}

/// What a sequence remembers.
#[derive(Clone, Copy, Debug)]
pub struct StateView<'a> {
    /// What the convolution will see, `[width - 1, channels]`, of the element type of what comes in.
    pub tail: View<'a>,
    /// Float32 `[heads, key_dim, value_dim]`.
    pub matrices: View<'a>,
}

/// [`StateView`], to write.
#[derive(Debug)]
pub struct StateViewMut<'a> {
    /// `[width - 1, channels]`.
    pub tail: ViewMut<'a>,
    /// Float32 `[heads, key_dim, value_dim]`.
    pub matrices: ViewMut<'a>,
}

/// Rows that follow each other in one sequence.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// How many.
    pub rows: usize,
    /// The state in front of them; none of a sequence that begins.
    pub before: Option<StateView<'a>>,
    /// Room for that behind them.
    pub behind: StateViewMut<'a>,
    /// Room for that behind some of them, and behind how many.
    pub aligned: Option<(usize, StateViewMut<'a>)>,
}

/// The rows of all `sequences`, one after the other, through a net: `y [L, heads · value_dim]`.
///
/// A row's sums have one order, however many rows and sequences there are.
///
/// # Errors
/// When sizes disagree.
pub fn delta_net(
    cpu: &Cpu,
    entered: &EnteredView<'_>,
    net: &NetView<'_>,
    mut sequences: Vec<Sequence<'_>>,
    y: ViewMut<'_>,
) -> Result<()> {
    check(entered, net, &sequences, &y)?;
    let heads = net.sizes.heads;
    let mut y = y.heads(heads)?;
    let y = y.rows();
    let mut tasks = Vec::with_capacity(sequences.len() * heads);
    let mut first = 0;
    for sequence in &mut sequences {
        let behind = sequence.behind.rows();
        let aligned = sequence.aligned.as_mut();
        let aligned = aligned.map(|(rows, state)| (*rows, state.rows()));
        let before = sequence.before.as_ref();
        for head in 0..heads {
            let columns = Columns::of(net, head);
            tasks.push(Head {
                net,
                head,
                first,
                rows: sequence.rows,
                runs: columns.runs(entered, net, before)?,
                z: entered
                    .z
                    .slice_cols(columns.z..columns.z + net.sizes.value_dim)?,
                b: entered.b.slice_cols(columns.b..columns.b + 1)?,
                a: entered.a.slice_cols(columns.a..columns.a + 1)?,
                before: before.map(|state| state.matrices),
                behind,
                aligned,
                y,
            });
        }
        first += sequence.rows;
    }
    cpu.pool().run(tasks.len(), |i| {
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made; all sizes were
        // checked, and what a head of a sequence writes no other does.
        unsafe { dispatch(cpu.isa(), &tasks[i]) }
    });
    Ok(())
}

/// Where a head's columns begin.
struct Columns {
    /// Of query, key and value in what comes in, and among the channels.
    mixed: [usize; 3],
    channels: [usize; 3],
    z: usize,
    b: usize,
    a: usize,
    /// Which of the heads that share a key it is.
    of_key: usize,
}

impl Columns {
    fn of(net: &NetView<'_>, head: usize) -> Self {
        let Sizes {
            key_heads,
            key_dim,
            value_dim,
            ..
        } = net.sizes;
        let shared = net.sizes.shared();
        let (key_head, of_key) = (head / shared, head % shared);
        let channels = [
            key_head * key_dim,
            (key_heads + key_head) * key_dim,
            2 * key_heads * key_dim + head * value_dim,
        ];
        let (mixed, z, [b, a]) = match net.by_key_head {
            false => (channels, head * value_dim, [head, head]),
            true => {
                let group = key_head * 2 * (key_dim + shared * value_dim);
                let values = group + 2 * key_dim + of_key * value_dim;
                let pair = key_head * 2 * shared + of_key;
                let mixed = [group, group + key_dim, values];
                (mixed, values + shared * value_dim, [pair, pair + shared])
            }
        };
        Self {
            mixed,
            channels,
            z,
            b,
            a,
            of_key,
        }
    }

    /// Query, key and value.
    fn runs<'a>(
        &self,
        entered: &EnteredView<'a>,
        net: &NetView<'_>,
        before: Option<&StateView<'a>>,
    ) -> Result<[Run<'a>; 3]> {
        let run = |i: usize| {
            let width = [net.sizes.key_dim, net.sizes.key_dim, net.sizes.value_dim][i];
            let (column, channel) = (self.mixed[i], self.channels[i]);
            let tail = before.map(|state| state.tail.slice_cols(channel..channel + width));
            Ok(Run {
                rows: entered.mixed.slice_cols(column..column + width)?,
                tail: tail.transpose()?,
                channel,
                // Of heads that share a key the first one keeps it.
                is_kept: i == 2 || self.of_key == 0,
            })
        };
        Ok([run(0)?, run(1)?, run(2)?])
    }
}

fn check(
    entered: &EnteredView<'_>,
    net: &NetView<'_>,
    sequences: &[Sequence<'_>],
    y: &ViewMut<'_>,
) -> Result<()> {
    let sizes = net.sizes;
    let (channels, values) = (sizes.channels(), sizes.heads * sizes.value_dim);
    ensure!(
        OP,
        sizes.shared() > 0
            && sizes.heads.is_multiple_of(sizes.key_heads)
            && sizes.key_dim > 0
            && sizes.value_dim > 0
            && sizes.width > 0,
        "{sizes:?}"
    );
    ensure!(
        OP,
        net.filter.len() == sizes.width * channels
            && [net.decay.len(), net.step.len()] == [sizes.heads; 2],
        "a filter of {}, and {} and {} heads forget, for {sizes:?}",
        net.filter.len(),
        net.decay.len(),
        net.step.len()
    );
    net.norm.check(OP, sizes.value_dim)?;
    let rows = y.layout().rows;
    let widths = match net.by_key_head {
        false => [channels, values, sizes.heads, sizes.heads],
        true => [
            channels + values,
            channels + values,
            2 * sizes.heads,
            2 * sizes.heads,
        ],
    };
    let parts = [entered.mixed, entered.z, entered.b, entered.a];
    let fit = parts.iter().zip(widths);
    let mut fit = fit.map(|(part, width)| part.layout().shape() == [1, rows, width]);
    ensure!(
        OP,
        fit.all(|fits| fits) && y.layout().shape() == [1, rows, values],
        "{:?} do not make {:?} of {sizes:?}",
        parts.map(|part| part.layout().shape()),
        y.layout().shape()
    );
    let all: usize = sequences.iter().map(|sequence| sequence.rows).sum();
    ensure!(OP, all == rows, "sequences of {all} rows for {rows}");
    let dtype = entered.mixed.layout().dtype;
    let is_state = |tail: &crate::Layout, matrices: &crate::Layout| {
        tail.shape() == [1, sizes.tail(), channels]
            && tail.dtype == dtype
            && matrices.shape() == [sizes.heads, sizes.key_dim, sizes.value_dim]
            && matrices.dtype == Dtype::F32
    };
    for sequence in sequences {
        let aligned = sequence.aligned.iter();
        let mut written = aligned.map(|(_, state)| state).chain([&sequence.behind]);
        let read = sequence.before.as_ref();
        ensure!(
            OP,
            sequence.rows > 0
                && read.is_none_or(|s| is_state(s.tail.layout(), s.matrices.layout()))
                && written.all(|s| is_state(s.tail.layout(), s.matrices.layout()))
                && sequence
                    .aligned
                    .as_ref()
                    .is_none_or(|(rows, _)| (1..=sequence.rows).contains(rows)),
            "states that are none of {sizes:?}"
        );
    }
    Ok(())
}

/// A state's rows, for threads to share.
#[derive(Clone, Copy)]
pub(super) struct StateRows<'a> {
    pub(super) tail: Rows<'a>,
    pub(super) matrices: Rows<'a>,
}

impl StateViewMut<'_> {
    fn rows(&mut self) -> StateRows<'_> {
        StateRows {
            tail: self.tail.rows(),
            matrices: self.matrices.rows(),
        }
    }
}
