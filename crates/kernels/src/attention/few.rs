//! Few queries: a decode step. Keys and values are read once, and that is the limit.
//!
//! The rows of a key head (its query heads, times their queries) go through a block of keys
//! together. Where heads are too few to occupy the threads, the keys are split, each part gives
//! its own softmax and sum, and these are joined in the end.

use super::softmax::{BLOCK, State, block, hide, squash};
use std::ops::Range;

use super::{Attention, FEW};
use crate::Cpu;
use crate::isa::{Float, Kernel, Simd, dispatch, with_float};
use crate::scratch::{Scratch, Shared};
use crate::vector::{load_row, scale, store_row};

/// Keys that a part has at least.
const MIN_PART: usize = 2 * BLOCK;

/// Elements that rows are padded to a multiple of, with zeros: any number of lanes.
const PAD: usize = 16;

/// One attention, for threads to share.
struct Few<'a> {
    attention: &'a Attention<'a>,
    /// Rows of a key head.
    rows: usize,
    /// Floats of a padded row.
    stride: usize,
    /// Keys that a row sees, from the beginning of a block on.
    seen: Range<usize>,
    /// Parts of them.
    parts: usize,
    /// Sums `[Hkv, parts, rows, stride]`.
    sums: Shared<f32>,
    /// States `[Hkv, parts, rows]`: maximum and sum.
    states: Shared<[f32; 2]>,
}

pub(super) fn attend(cpu: &Cpu, attention: &Attention<'_>) {
    let heads = attention.k.layout().planes;
    let rows = attention.group() * attention.queries();
    let stride = attention.dim().next_multiple_of(PAD);
    let seen = attention.seen(0..attention.queries());
    let seen = seen.start / BLOCK * BLOCK..seen.end;
    let wanted = (2 * cpu.pool().threads()).div_ceil(heads);
    let parts = if cpu.pool().threads() == 1 {
        1
    } else {
        wanted.min(seen.len() / MIN_PART).max(1)
    };
    let mut sums = Scratch::<f32>::take(heads * parts * rows * stride);
    let mut states = Scratch::<f32>::take(2 * heads * parts * rows);
    let few = Few {
        attention,
        rows,
        stride,
        seen,
        parts,
        sums: Shared::new(sums.as_mut_ptr()),
        states: Shared::new(states.as_mut_ptr().cast()),
    };
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made; each
    // part is one thread's, and joining begins when all are done.
    unsafe {
        cpu.pool().run(heads * parts, |task| {
            dispatch(
                cpu.isa(),
                Part {
                    few: &few,
                    head: task / parts,
                    part: task % parts,
                },
            );
        });
        dispatch(cpu.isa(), Join { few: &few, heads });
    }
}

/// Part `part` of the keys of key head `head`.
struct Part<'a> {
    few: &'a Few<'a>,
    head: usize,
    part: usize,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        with_float!(self.few.attention.k.layout().dtype, T => {
            // SAFETY: run by `dispatch`; `T` is the type of the keys.
            unsafe { self.attend::<S, T>() }
        });
    }
}

impl Part<'_> {
    /// # Safety
    /// [`Simd`]'s contract; `T` is the element type of the keys; the part is this thread's.
    #[inline(always)]
    unsafe fn attend<S: Simd, T: Float>(&self) {
        let &Few {
            attention,
            rows,
            stride,
            ref seen,
            parts,
            ..
        } = self.few;
        let (queries, keys) = (attention.queries(), attention.keys());
        let at = self.head * parts + self.part;
        let share = seen.len().div_ceil(parts).next_multiple_of(BLOCK);
        let mut ranges = [const { 0..0 }; FEW];
        for (row, range) in ranges.iter_mut().enumerate().take(rows) {
            *range = attention.mask.range(row % queries, queries, keys);
        }
        let all = attention.seen(0..queries);
        let begin = seen.start + self.part * share;
        let all = all.start.max(begin)..all.end.min(begin + share);
        let mut states = [State::EMPTY; FEW];
        let mut scores = [[0.0_f32; BLOCK]; FEW];
        // SAFETY: by this function's own contract; each part has rows of its own in all blocks.
        unsafe {
            let mut q = Scratch::<f32>::take(rows * stride);
            let q = q.as_mut_ptr();
            self.scale_queries::<S>(q);
            let sums = self.few.sums.get().add(at * rows * stride);
            sums.write_bytes(0, rows * stride);
            let mut first = all.start;
            while first < all.end {
                let keys = block(first, all.end);
                let count = keys.len();
                let mut row = 0;
                while row < rows {
                    let (q, out) = (q.add(row * stride), &mut scores[row..]);
                    row += match rows - row {
                        4.. if S::REGISTERS >= 32 => self.scores::<S, T, 4>(q, first, count, out),
                        2.. => self.scores::<S, T, 2>(q, first, count, out),
                        _ => self.scores::<S, T, 1>(q, first, count, out),
                    };
                }
                for row in 0..rows {
                    let seen = ranges[row].start.max(all.start)..ranges[row].end.min(keys.end);
                    let block = scores[row].as_mut_ptr();
                    if let Some(cap) = attention.scores.softcap {
                        squash::<S>(block, cap);
                    }
                    hide(block, first, &seen, &attention.mask, row % queries);
                    let factor = states[row].take::<S>(block);
                    if factor != 1.0 {
                        scale::<S>(sums.add(row * stride), stride, factor);
                    }
                }
                let mut row = 0;
                while row < rows {
                    let (scores, sums) = (&scores[row..], sums.add(row * stride));
                    row += match rows - row {
                        4.. if S::REGISTERS >= 32 => {
                            self.weigh::<S, T, 4>(scores, first, count, sums)
                        }
                        2.. => self.weigh::<S, T, 2>(scores, first, count, sums),
                        _ => self.weigh::<S, T, 1>(scores, first, count, sums),
                    };
                }
                first = keys.end;
            }
            for (row, state) in states.iter().enumerate().take(rows) {
                *self.few.states.get().add(at * rows + row) = [state.max, state.sum];
            }
        }
    }

    /// The rows of queries of this head as padded float32, times the scale.
    ///
    /// # Safety
    /// [`Simd`]'s contract; `to` has room for them.
    #[inline(always)]
    unsafe fn scale_queries<S: Simd>(&self, to: *mut f32) {
        let Few {
            attention,
            rows,
            stride,
            ..
        } = *self.few;
        let queries = attention.queries();
        for row in 0..rows {
            let head = self.head * attention.group() + row / queries;
            // SAFETY: by this function's own contract.
            unsafe {
                let to = to.add(row * stride);
                to.add(stride - PAD).write_bytes(0, PAD);
                load_row::<S>(&attention.q, head, row % queries, to);
                scale::<S>(to, stride, attention.scores.scale);
            }
        }
    }

    /// Scores of `count` keys from `first` on with `R` rows of queries. Gives back `R`.
    ///
    /// # Safety
    /// As [`Part::attend`]; the keys exist, `q` leads to so many rows, `out` has so many.
    #[inline(always)]
    unsafe fn scores<S: Simd, T: Float, const R: usize>(
        &self,
        q: *const f32,
        first: usize,
        count: usize,
        out: &mut [[f32; BLOCK]],
    ) -> usize {
        let (k, v) = (&self.few.attention.k, &self.few.attention.v);
        let (dim, stride) = (self.few.attention.dim(), self.few.stride);
        let whole = dim / S::LANES * S::LANES;
        // SAFETY: by this function's own contract; rows of queries end in zeros.
        unsafe {
            // A block lies in one piece.
            let base = k.row(self.head, first).cast::<T>();
            let row_stride = k.layout().row_stride;
            let v_base = v.row(self.head, first).cast::<T>();
            let v_stride = v.layout().row_stride;
            for j in (0..count).step_by(4) {
                // Past the last key the last key again, whose scores are overwritten or hidden.
                let mut keys = [base; 4];
                for i in 0..4 {
                    keys[i] = base.add((j + i).min(count - 1) * row_stride);
                }
                // While these keys are multiplied, their values are asked for, in order.
                let values = v_base.add(j * v_stride);
                let mut sums = [[S::zero(); 4]; R];
                for d in (0..whole).step_by(S::LANES) {
                    let mut k = [S::zero(); 4];
                    for i in 0..4 {
                        S::prefetch(values.wrapping_add(4 * d + i * S::LANES).cast());
                        k[i] = T::load::<S>(keys[i].add(d));
                    }
                    for r in 0..R {
                        let q = S::load_f32(q.add(r * stride + d));
                        for i in 0..4 {
                            sums[r][i] = S::mul_add(q, k[i], sums[r][i]);
                        }
                    }
                }
                if whole < dim {
                    for i in 0..4 {
                        let k = T::load_first::<S>(keys[i].add(whole), dim - whole);
                        for r in 0..R {
                            let q = S::load_f32(q.add(r * stride + whole));
                            sums[r][i] = S::mul_add(q, k, sums[r][i]);
                        }
                    }
                }
                for r in 0..R {
                    out[r][j..j + 4].copy_from_slice(&S::sum_four(sums[r]));
                }
            }
        }
        R
    }

    /// Adds to `R` rows of sums the values of `count` keys from `first` on, weighed by the rows
    /// of `weights`. Gives back `R`.
    ///
    /// # Safety
    /// As [`Part::attend`]; the values exist, `sums` leads to so many padded rows.
    #[inline(always)]
    unsafe fn weigh<S: Simd, T: Float, const R: usize>(
        &self,
        weights: &[[f32; BLOCK]],
        first: usize,
        count: usize,
        sums: *mut f32,
    ) -> usize {
        /// Vectors of a value that are kept in registers.
        const VECTORS: usize = 4;
        let v = &self.few.attention.v;
        let (dim, stride) = (self.few.attention.dim(), self.few.stride);
        let step = VECTORS * S::LANES;
        // SAFETY: by this function's own contract.
        unsafe {
            let base = v.row(self.head, first).cast::<T>();
            let row_stride = v.layout().row_stride;
            let next = (first + count).min(self.few.attention.keys() - 1);
            let keys = self.few.attention.k.row(self.head, next);
            let whole = dim / step * step;
            for d in (0..whole).step_by(step) {
                let mut acc = [[S::zero(); VECTORS]; R];
                for j in 0..count {
                    let value = base.add(j * row_stride + d);
                    let mut v = [S::zero(); VECTORS];
                    for i in 0..VECTORS {
                        v[i] = T::load::<S>(value.add(i * S::LANES));
                    }
                    // Meanwhile the keys of the next block, in as many parts as there are passes.
                    for line in 0..step * size_of::<T>() / 64 {
                        let at = (d / step * count + j) * step * size_of::<T>() + 64 * line;
                        S::prefetch(keys.wrapping_add(at));
                    }
                    for r in 0..R {
                        let weight = S::splat(weights[r][j]);
                        for i in 0..VECTORS {
                            acc[r][i] = S::mul_add(weight, v[i], acc[r][i]);
                        }
                    }
                }
                for r in 0..R {
                    for i in 0..VECTORS {
                        let to = sums.add(r * stride + d + i * S::LANES);
                        S::store_f32(to, S::add(S::load_f32(to), acc[r][i]));
                    }
                }
            }
            for d in (whole..dim).step_by(S::LANES) {
                let left = (dim - d).min(S::LANES);
                for (r, weights) in weights.iter().enumerate().take(R) {
                    let mut acc = S::zero();
                    for (j, &weight) in weights.iter().enumerate().take(count) {
                        let v = T::load_first::<S>(base.add(j * row_stride + d), left);
                        acc = S::mul_add(S::splat(weight), v, acc);
                    }
                    let to = sums.add(r * stride + d);
                    S::store_f32(to, S::add(S::load_f32(to), acc));
                }
            }
        }
        R
    }
}

/// Joins the parts of every head and stores the result.
struct Join<'a> {
    few: &'a Few<'a>,
    heads: usize,
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Few {
            attention,
            rows,
            stride,
            parts,
            sums,
            states,
            ..
        } = *self.few;
        let queries = attention.queries();
        let mut total = Scratch::<f32>::take(stride);
        let total = total.as_mut_ptr();
        for row in 0..self.heads * rows {
            let (head, row) = (row / rows, row % rows);
            let at = |part: usize| (head * parts + part) * rows + row;
            let query_head = head * attention.group() + row / queries;
            let sink = attention.sink(query_head).unwrap_or(f32::NEG_INFINITY);
            // SAFETY: all parts were written; the row of the result is within `out`.
            unsafe {
                let state = |part: usize| *states.get().add(at(part));
                let max = (0..parts).fold(sink, |max, part| max.max(state(part)[0]));
                let mut sum = match sink == f32::NEG_INFINITY {
                    true => 0.0,
                    false => (sink - max).exp(),
                };
                total.write_bytes(0, stride);
                for part in 0..parts {
                    let [part_max, part_sum] = state(part);
                    if part_max == f32::NEG_INFINITY {
                        continue;
                    }
                    let factor = (part_max - max).exp();
                    sum += factor * part_sum;
                    let from = sums.get().add(at(part) * stride);
                    for d in (0..stride).step_by(S::LANES) {
                        let (old, new) = (S::load_f32(total.add(d)), S::load_f32(from.add(d)));
                        S::store_f32(total.add(d), S::mul_add(new, S::splat(factor), old));
                    }
                }
                scale::<S>(total, stride, if sum == 0.0 { 0.0 } else { 1.0 / sum });
                store_row::<S>(attention.out, query_head, row % queries, total);
            }
        }
    }
}
