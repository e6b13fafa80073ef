//! A mixture of experts: for each token the sum over the experts that its router finds likeliest.
//!
//! The router's logits, their softmax and the sums over experts are float32. Each chosen matrix is read once for
//! all rows that have it. The sum of a row goes over its experts by their number, so it does not depend on
//! which other rows there are: those decide only how many rows a product has, and products of few rows give
//! each row the same bits.

pub mod cuda;
pub(crate) mod graph;
mod route;
mod sums;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::error::ensure;
use crate::gated::gated;
use crate::linear::{Intermediate, LinearView, product, products};
use crate::mlp::{Gated, gated_mlp};
use crate::rms_norm::{NormView, rms_norm};
use crate::{Cpu, Dtype, Result, View, ViewMut};

use route::{Pair, Routes};
use sums::Sums;

const OP: &str = "experts";

/// Rows whose experts' outputs are kept beside each other until all are there; of more they are added as they
/// come, or they would take many times the room of the rows.
const FEW: usize = 16;

/// The experts of a layer, of which a few are looked at.
pub trait Each: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them.
    ///
    /// # Errors
    /// When there is no such expert.
    fn expert(&self, index: usize) -> Result<Gated<LinearView<'_>>>;

    /// What the share of one is multiplied by in the end.
    fn factor(&self, _index: usize) -> f32 {
        1.0
    }
}

impl fmt::Debug for dyn Each + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} experts", self.count())
    }
}

/// A mixture: `W` is a linear map, `N` a norm, `E` the experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts<W, N, E> {
    /// `[count, hidden]`.
    pub router: W,
    /// Of what the router sees, where that is not what the experts see.
    pub router_norm: Option<N>,
    /// What the router's logits are multiplied by.
    pub router_scale: f32,
    /// Experts of a token.
    pub top: usize,
    /// Whether their shares are divided by their sum.
    pub renormalised: bool,
    /// All of them.
    pub each: E,
    /// An expert that every token has.
    pub shared: Option<Shared<W>>,
}

/// `sigmoid(gate(x)) · mlp(x)`.
#[derive(Clone, Copy, Debug)]
pub struct Shared<W> {
    /// `[1, hidden]`.
    pub gate: W,
    /// The expert.
    pub mlp: Gated<W>,
}

impl<W, N, E> Experts<W, N, E> {
    /// The same with its parts as something else.
    pub(crate) fn try_map<'a, W2, N2, E2, X>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, X>,
        norm: impl Fn(&'a N) -> Result<N2, X>,
        each: impl Fn(&'a E) -> Result<E2, X>,
    ) -> Result<Experts<W2, N2, E2>, X> {
        let shared = self.shared.as_ref().map(|shared| {
            Ok(Shared {
                gate: weight(&shared.gate)?,
                mlp: shared.mlp.try_map(&weight)?,
            })
        });
        Ok(Experts {
            router: weight(&self.router)?,
            router_norm: self.router_norm.as_ref().map(norm).transpose()?,
            router_scale: self.router_scale,
            top: self.top,
            renormalised: self.renormalised,
            each: each(&self.each)?,
            shared: shared.transpose()?,
        })
    }
}

/// A mixture in memory.
pub type ExpertsView<'a> = Experts<LinearView<'a>, NormView<'a>, &'a dyn Each>;

/// The rows of `x` `[R, hidden]` through a mixture of experts, `y` `[R, hidden]`.
///
/// # Errors
/// When sizes disagree.
pub fn experts(cpu: &Cpu, x: View<'_>, by: &ExpertsView<'_>, y: ViewMut<'_>) -> Result<()> {
    routed_experts(cpu, x, x, by, y)
}

/// The same where the router sees the rows of `seen`, as many and as wide.
///
/// # Errors
/// When sizes disagree.
pub fn routed_experts(
    cpu: &Cpu,
    x: View<'_>,
    seen: View<'_>,
    by: &ExpertsView<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    let ([_, rows, hidden], count) = (x.layout().shape(), by.each.count());
    let outputs = by.router.weight.rows();
    ensure!(
        OP,
        outputs == count && (1..=count).contains(&by.top),
        "{} of {count} experts by a router of {outputs}",
        by.top
    );
    ensure!(
        OP,
        x.layout().shape() == y.layout().shape()
            && x.layout().shape() == seen.layout().shape()
            && x.layout().planes == 1,
        "x {:?} does not give y {:?}",
        x.layout().shape(),
        y.layout().shape()
    );
    let mut logits = Intermediate::take(Dtype::F32, rows, count);
    match by.router_norm {
        Some(norm) => {
            let mut normed = Intermediate::take(Dtype::F32, rows, hidden);
            rms_norm(cpu, seen, norm, normed.view_mut()?)?;
            product(cpu, normed.view()?, &by.router, logits.view_mut()?)?;
        }
        None => product(cpu, seen, &by.router, logits.view_mut()?)?,
    }
    let logits: Vec<f32> = logits.floats().map(|x| x * by.router_scale).collect();
    let mut routes = Routes::new(&logits, count, by.top, by.renormalised);
    for pair in &mut routes.pairs {
        pair.share *= by.each.factor(pair.expert);
    }
    let mut sums = Sums::zeros(rows, hidden);
    match rows {
        ..=FEW => few(cpu, x, by.each, &routes, &mut sums)?,
        _ => many(cpu, x, by.each, &routes, &mut sums)?,
    }
    if let Some(shared) = &by.shared {
        add_shared(cpu, x, shared, &mut sums)?;
    }
    sums.store(cpu, y);
    Ok(())
}

/// One expert's rows.
struct Work<'a> {
    expert: Gated<LinearView<'a>>,
    pairs: &'a [Pair],
    /// `[pairs, hidden]`.
    y: ViewMut<'a>,
}

/// The experts of few rows: with as many tasks as fill the threads each on one, else one after the other.
fn few(cpu: &Cpu, x: View<'_>, each: &dyn Each, routes: &Routes, sums: &mut Sums) -> Result<()> {
    let (hidden, pairs) = (x.layout().cols, &routes.pairs);
    let mut outputs = Intermediate::take(Dtype::F32, pairs.len(), hidden);
    if x.layout().rows == 1 {
        of_one(cpu, x, each, pairs, &mut outputs)?;
    } else {
        let mut rest = outputs.view_mut()?;
        let mut works = Vec::new();
        for (range, pairs) in routes.by_expert() {
            let (y, behind) = rest.split_rows(range.len())?;
            rest = behind;
            let expert = each.expert(pairs[0].expert)?;
            works.push(Work { expert, pairs, y });
        }
        for_each(cpu, works, |Work { expert, pairs, y }| {
            gated_mlp(cpu, gathered(x, pairs).view()?, &expert, y)
        })?;
    }
    let outputs = outputs.view()?;
    for (range, pairs) in routes.by_expert() {
        sums.add(cpu, pairs, outputs.slice_rows(range)?);
    }
    Ok(())
}

/// The experts of one row: it goes through all gates and ups together.
fn of_one(
    cpu: &Cpu,
    x: View<'_>,
    each: &dyn Each,
    pairs: &[Pair],
    outputs: &mut Intermediate,
) -> Result<()> {
    let experts = pairs.iter().map(|pair| each.expert(pair.expert));
    let experts: Vec<Gated<LinearView<'_>>> = experts.collect::<Result<_>>()?;
    let Some(first) = experts.first() else {
        return Ok(());
    };
    let (width, dtype) = (first.gate.weight.rows(), x.layout().dtype);
    let room = || Intermediate::take(dtype, experts.len(), width);
    let (mut gate, mut up, mut inner) = (room(), room(), room());
    let mut parts = Vec::with_capacity(2 * experts.len());
    let (mut gates, mut ups) = (gate.view_mut()?, up.view_mut()?);
    for expert in &experts {
        let ((gate, gates_behind), (up, ups_behind)) = (gates.split_rows(1)?, ups.split_rows(1)?);
        parts.extend([(&expert.gate, gate), (&expert.up, up)]);
        (gates, ups) = (gates_behind, ups_behind);
    }
    products(cpu, x, parts)?;
    gated(
        cpu,
        first.activation,
        gate.view()?,
        up.view()?,
        inner.view_mut()?,
    )?;
    let inner = inner.view()?;
    let mut rest = outputs.view_mut()?;
    let mut works = Vec::with_capacity(experts.len());
    for (i, expert) in experts.iter().enumerate() {
        let (y, behind) = rest.split_rows(1)?;
        rest = behind;
        works.push((inner.slice_rows(i..i + 1)?, &expert.down, y));
    }
    for_each(cpu, works, |(inner, down, y)| product(cpu, inner, down, y))
}

/// The experts of many rows, one after the other on all threads.
fn many(cpu: &Cpu, x: View<'_>, each: &dyn Each, routes: &Routes, sums: &mut Sums) -> Result<()> {
    for (range, pairs) in routes.by_expert() {
        let mut y = Intermediate::take(Dtype::F32, range.len(), x.layout().cols);
        let expert = each.expert(pairs[0].expert)?;
        gated_mlp(cpu, gathered(x, pairs).view()?, &expert, y.view_mut()?)?;
        sums.add(cpu, pairs, y.view()?);
    }
    Ok(())
}

fn add_shared(
    cpu: &Cpu,
    x: View<'_>,
    shared: &Shared<LinearView<'_>>,
    sums: &mut Sums,
) -> Result<()> {
    let (rows, hidden) = (x.layout().rows, x.layout().cols);
    let mut gate = Intermediate::take(Dtype::F32, rows, 1);
    product(cpu, x, &shared.gate, gate.view_mut()?)?;
    let pairs: Vec<Pair> = gate
        .floats()
        .enumerate()
        .map(|(row, gate)| Pair {
            expert: 0,
            row,
            share: 1.0 / (1.0 + (-gate).exp()),
        })
        .collect();
    let mut y = Intermediate::take(Dtype::F32, rows, hidden);
    gated_mlp(cpu, x, &shared.mlp, y.view_mut()?)?;
    sums.add(cpu, &pairs, y.view()?);
    Ok(())
}

/// The rows of `x` that the pairs have.
fn gathered(x: View<'_>, pairs: &[Pair]) -> Intermediate {
    let layout = x.layout();
    let mut rows = Intermediate::take(layout.dtype, pairs.len(), layout.cols);
    let bytes = layout.cols * layout.dtype.size();
    for (pair, to) in pairs
        .iter()
        .zip(rows.bytes_mut().chunks_exact_mut(bytes.max(1)))
    {
        // SAFETY: a row of the view has so many bytes, which nobody writes.
        let from = unsafe { std::slice::from_raw_parts(x.row(0, pair.row), bytes) };
        to.copy_from_slice(from);
    }
    rows
}

/// Does each work: a thread each, where they fill the threads evenly or are many; else one after the other, each
/// on all threads. A work divides its rows in the same way in both.
fn for_each<T: Send>(
    cpu: &Cpu,
    works: Vec<T>,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let threads = cpu.pool().threads().max(1);
    let fill = works.len().is_multiple_of(threads) || works.len() >= 4 * threads;
    if !fill {
        return works.into_iter().try_for_each(work);
    }
    let works: Vec<_> = works
        .into_iter()
        .map(|work| Mutex::new(Some(work)))
        .collect();
    let outcome = Mutex::new(Ok(()));
    cpu.pool().run(works.len(), |i| {
        let own = works[i]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let done = own.map_or(Ok(()), &work);
        if done.is_err() {
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = done;
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}
