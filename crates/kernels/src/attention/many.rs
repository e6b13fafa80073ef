//! Many queries: a prefill. Both products are tiled as in [`crate::gemm`].
//!
//! A task is some queries of one key head, in all the query heads that share it. For each block of
//! keys it packs the keys as panels (words along the head's dimension) and the values as panels of
//! float32 (words along the keys); computes the scores tile by tile; turns them into weights, row
//! by row, where they lie; and adds the weighted values to its sums. Everything a task touches
//! stays in the second-level cache. Blocks that no query of the task sees are not visited.

use std::ops::Range;

use super::Attention;
use super::softmax::{BLOCK, State, block, hide, squash};
use crate::gemm::{Arith, Dense, F32, Word, by_height, is_bf16, pack_rows, sums};
use crate::isa::{Float, Kernel, Simd, dispatch, with_float};
use crate::scratch::Scratch;
use crate::vector::{scale, store_row, widen};
use crate::{Cpu, Dtype, Isa, View};

/// Rows of a task, about: enough that packing keys and values is little beside using them.
const ROWS: usize = 192;

pub(super) fn attend(cpu: &Cpu, attention: &Attention<'_>) {
    let heads = attention.k.layout().planes;
    let queries = attention.queries();
    let threads = cpu.pool().threads();
    let fair = (heads * queries).div_ceil(4 * threads);
    let share = (ROWS / attention.group()).clamp(1, fair.max(8));
    let parts = queries.div_ceil(share);
    let word = Word::choose(
        cpu,
        is_bf16(&attention.q) && attention.k.layout().dtype == Dtype::Bf16,
    );
    cpu.pool().run(heads * parts, |task| {
        // Later queries see more keys: they go first, so that the last tasks are short.
        let (part, head) = (parts - 1 - task / heads, task % heads);
        let queries = part * share..queries.min((part + 1) * share);
        let task = Many {
            attention,
            word,
            head,
            queries,
        };
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
        // queries and heads are one task's.
        unsafe { task.run_on(cpu.isa()) }
    });
}

/// Queries of a key head, in all query heads that share it.
struct Many<'a> {
    attention: &'a Attention<'a>,
    /// What scores are made of.
    word: Word,
    head: usize,
    queries: Range<usize>,
}

impl Kernel for Many<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: as `Many::attend`.
        unsafe { self.attend::<F32<S>>() }
    }
}

impl Many<'_> {
    /// # Safety
    /// The machine has `isa`; these rows of the result are this thread's.
    unsafe fn run_on(self, isa: Isa) {
        /// # Safety
        /// As [`Many::run_on`], on a machine with AVX-512 and its bfloat16 dot product.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(
            enable = "avx2,fma,f16c,bmi1,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16"
        )]
        unsafe fn pairs(task: &Many<'_>) {
            // SAFETY: by this function's own contract.
            unsafe { task.attend::<crate::gemm::Bf16Pairs>() }
        }
        // SAFETY: by this function's own contract; pairs are chosen for `Avx512Bf16` only.
        unsafe {
            match self.word {
                #[cfg(target_arch = "x86_64")]
                Word::Bf16Pair => pairs(&self),
                _ => dispatch(isa, self),
            }
        }
    }

    /// The query head and query of a row: head after head.
    fn place(&self, row: usize) -> (usize, usize) {
        let n = self.queries.len();
        (
            self.head * self.attention.group() + row / n,
            self.queries.start + row % n,
        )
    }

    /// # Safety
    /// [`Simd`]'s contract for `A`, which matches `self.word`; these rows of the result are this
    /// thread's.
    #[inline(always)]
    unsafe fn attend<A: Arith>(&self) {
        let attention = self.attention;
        let (dim, keys) = (attention.dim(), attention.keys());
        let rows = attention.group() * self.queries.len();
        let lanes = A::Simd::LANES;
        let width = 2 * lanes;
        let words = self.word.count(dim);
        let stride = dim.next_multiple_of(width);
        let seen = |row: usize| {
            attention
                .mask
                .range(self.place(row).1, attention.queries(), keys)
        };
        let Range { start: begin, end } = attention.seen(self.queries.clone());

        let mut x = Scratch::<u32>::take(rows * words);
        let mut k = Scratch::<u32>::take(BLOCK.next_multiple_of(width) * words);
        let mut v = Scratch::<f32>::take(BLOCK * stride);
        let mut scores = Scratch::<f32>::take(rows * BLOCK);
        let mut out = Scratch::<f32>::take(rows * stride);
        let mut states = Scratch::<f32>::take(2 * rows);
        let (x, k, v) = (x.as_mut_ptr(), k.as_mut_ptr(), v.as_mut_ptr());
        let (scores, out) = (scores.as_mut_ptr(), out.as_mut_ptr());
        let states = states.as_mut_ptr().cast::<[f32; 2]>();
        // SAFETY: by this function's own contract; the blocks have room for what they are for.
        unsafe {
            self.pack_queries::<A>(x, rows, words);
            out.write_bytes(0, rows * stride);
            for row in 0..rows {
                let state = match attention.sink(self.place(row).0) {
                    Some(sink) => State::of(sink),
                    None => State::EMPTY,
                };
                *states.add(row) = [state.max, state.sum];
            }
            let mut next = begin;
            while next < end {
                let (first, block) = (next, block(next, end));
                next = block.end;
                let here = attention.k.block(block.clone());
                let source = Dense::plane(&here, self.head);
                pack_rows::<A::Simd, _>(&source, self.word, 0..block.len(), width, k);
                self.widen_values::<A::Simd>(&attention.v.block(block.clone()), v, stride);
                // Keys of the block up to the last that a row of the tile sees.
                let used = |row: usize, height: usize| {
                    let last = (row..row + height).map(|row| seen(row).end).max();
                    last.unwrap_or(0).min(block.end).saturating_sub(first)
                };
                for row in (0..rows).step_by(A::HEIGHT) {
                    let x = x.add(row * words);
                    let height = A::HEIGHT.min(rows - row);
                    for panel in 0..used(row, height).div_ceil(width) {
                        let k = k.add(panel * width * words);
                        let to = scores.add(row * BLOCK + panel * width);
                        by_height!(height, A::HEIGHT, H => {
                            let sums = sums::<A, H, 1, H>(words, x, k);
                            for (i, sums) in sums.into_iter().enumerate() {
                                store_scaled::<A::Simd>(to.add(i * BLOCK), sums, attention.scores.scale);
                            }
                        });
                    }
                }
                for row in 0..rows {
                    let (_, query) = self.place(row);
                    let scores = scores.add(row * BLOCK);
                    if let Some(cap) = attention.scores.softcap {
                        squash::<A::Simd>(scores, cap);
                    }
                    hide(
                        scores,
                        first,
                        &(seen(row).start..seen(row).end.min(block.end)),
                        &attention.mask,
                        query,
                    );
                    let [max, sum] = *states.add(row);
                    let mut state = State { max, sum };
                    let factor = state.take::<A::Simd>(scores);
                    *states.add(row) = [state.max, state.sum];
                    if factor != 1.0 {
                        scale::<A::Simd>(out.add(row * stride), stride, factor);
                    }
                }
                for row in (0..rows).step_by(A::HEIGHT) {
                    let weights = scores.add(row * BLOCK).cast::<u32>();
                    let height = A::HEIGHT.min(rows - row);
                    let used = used(row, height);
                    if used == 0 {
                        continue;
                    }
                    for panel in 0..stride / width {
                        let v = v.add(panel * width * BLOCK).cast::<u32>();
                        let to = out.add(row * stride + panel * width);
                        by_height!(height, A::HEIGHT, H => {
                            let sums = sums::<F32<A::Simd>, H, BLOCK, 1>(used, weights, v);
                            for (i, sums) in sums.into_iter().enumerate() {
                                add_to::<A::Simd>(to.add(i * stride), sums);
                            }
                        });
                    }
                }
            }
            for row in 0..rows {
                let ([_, sum], from) = (*states.add(row), out.add(row * stride));
                scale::<A::Simd>(from, stride, if sum == 0.0 { 0.0 } else { 1.0 / sum });
                let (head, query) = self.place(row);
                store_row::<A::Simd>(attention.out, head, query, from);
            }
        }
    }

    /// Packs the rows of queries as tiles: for each word, that of each row.
    ///
    /// # Safety
    /// [`Simd`]'s contract for `A`; `to` has room for `rows * words`.
    #[inline(always)]
    unsafe fn pack_queries<A: Arith>(&self, to: *mut u32, rows: usize, words: usize) {
        let mut scratch = Scratch::<u32>::take(words);
        for row in 0..rows {
            let tile = row / A::HEIGHT * A::HEIGHT;
            let height = A::HEIGHT.min(rows - tile);
            let (head, query) = self.place(row);
            let source = Dense::plane(&self.attention.q, head);
            // SAFETY: by this function's own contract.
            unsafe {
                use crate::gemm::Source;
                let from = source.words::<A::Simd>(self.word, query, scratch.as_mut_ptr());
                let to = to.add(tile * words + row - tile);
                for word in 0..words {
                    *to.add(word * height) = from.add(word).read_unaligned();
                }
            }
        }
    }

    /// The values of a block as panels of float32: for each key, a panel's width of its elements; zero
    /// beyond the last element.
    ///
    /// # Safety
    /// [`Simd`]'s contract; `to` has room for `BLOCK * stride`.
    #[inline(always)]
    unsafe fn widen_values<S: Simd>(&self, v: &View<'_>, to: *mut f32, stride: usize) {
        let dim = self.attention.dim();
        let width = 2 * S::LANES;
        for i in 0..v.layout().rows {
            let from = v.row(self.head, i);
            with_float!(v.layout().dtype, T => {
                for d in (0..stride).step_by(width) {
                    // SAFETY: by this function's own contract.
                    unsafe {
                        let from = from.cast::<T>().add(d);
                        let to = to.add(d * BLOCK + i * width);
                        if d + width <= dim {
                            S::store_f32(to, T::load::<S>(from));
                            S::store_f32(to.add(S::LANES), T::load::<S>(from.add(S::LANES)));
                        } else {
                            to.write_bytes(0, width);
                            widen::<S, T>(from, to, dim - d);
                        }
                    }
                }
            });
        }
    }
}

/// # Safety
/// [`Simd`]'s contract; `to` has room for two vectors.
#[inline(always)]
unsafe fn store_scaled<S: Simd>(to: *mut f32, sums: [S::V; 2], factor: f32) {
    // SAFETY: by this function's own contract.
    unsafe {
        S::store_f32(to, S::mul(sums[0], S::splat(factor)));
        S::store_f32(to.add(S::LANES), S::mul(sums[1], S::splat(factor)));
    }
}

/// # Safety
/// [`Simd`]'s contract; `to` leads to two vectors.
#[inline(always)]
unsafe fn add_to<S: Simd>(to: *mut f32, sums: [S::V; 2]) {
    // SAFETY: by this function's own contract.
    unsafe {
        S::store_f32(to, S::add(S::load_f32(to), sums[0]));
        let to = to.add(S::LANES);
        S::store_f32(to, S::add(S::load_f32(to), sums[1]));
    }
}
