//! One head of a sequence on its way through a gated delta net.

use crate::View;
use crate::isa::Float;
use crate::isa::{Kernel, Simd, sigmoid, with_float};
use crate::scratch::Scratch;
use crate::vector::{dot, load_row, scale, store_row};
use crate::view::Rows;

use super::net::{NetView, StateRows};
use super::rule::{self, Brought};

/// Added to the square of a query's or a key's length.
const LENGTH_EPS: f32 = 1e-6;

/// Tokens that are on their way together: what is made of them stays in the second-level cache.
const CHUNK: usize = 32;

/// Floats of the widest vector.
const LANES: usize = 16;

/// Floats of the widest block of columns.
const BLOCK: usize = 4 * LANES;

/// A head of a sequence.
pub(super) struct Head<'a> {
    pub(super) net: &'a NetView<'a>,
    pub(super) head: usize,
    /// The first of the sequence's rows, and how many.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Its columns of queries, of keys and of values.
    pub(super) runs: [Run<'a>; 3],
    pub(super) z: View<'a>,
    /// One column each.
    pub(super) b: View<'a>,
    pub(super) a: View<'a>,
    /// The matrices of all heads; none of a sequence that begins.
    pub(super) before: Option<View<'a>>,
    pub(super) behind: StateRows<'a>,
    /// And what is to be kept behind so many rows.
    pub(super) aligned: Option<(usize, StateRows<'a>)>,
    /// Planes of heads.
    pub(super) y: Rows<'a>,
}

/// Columns that follow each other, on their way through the convolution.
pub(super) struct Run<'a> {
    pub(super) rows: View<'a>,
    /// Of the rows before the sequence's first; zeros if there are none.
    pub(super) tail: Option<View<'a>>,
    /// Which channel the first of them is.
    pub(super) channel: usize,
    /// Whether this head puts them into the next tail.
    pub(super) is_kept: bool,
}

impl Kernel for &Head<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: by the trait's contract; sums, changes and what is broadcast fit into the registers.
        unsafe {
            match S::REGISTERS {
                32.. => self.tokens::<S, 4>(),
                _ => self.tokens::<S, 2>(),
            }
        }
    }
}

/// Working memory of a head: what of each part there is room for.
struct Room {
    floats: Scratch<f32>,
    /// Floats of a row of queries or keys, and of values.
    widths: [usize; 3],
    starts: [usize; PARTS],
}

/// Three filters, one run's inputs, queries, keys, values, what is read, `z`, the state.
const PARTS: usize = 10;
const INPUTS: usize = 3;
const QUERIES: usize = 4;
const READS: usize = 7;
const Z: usize = 8;
const STATE: usize = 9;

impl Room {
    fn take(net: &NetView<'_>, tokens: usize) -> Self {
        let sizes = net.sizes;
        let key = sizes.key_dim.next_multiple_of(LANES);
        let value = sizes.value_dim.next_multiple_of(BLOCK);
        let (width, wider) = (sizes.width, key.max(value));
        let parts: [usize; PARTS] = [
            width * key,
            width * key,
            width * value,
            (tokens + width) * wider,
            tokens * key,
            tokens * key,
            tokens * value,
            tokens * value,
            value,
            sizes.key_dim * value,
        ];
        let (mut starts, mut all) = ([0; PARTS], 0);
        for (start, floats) in starts.iter_mut().zip(parts) {
            *start = all;
            all += floats;
        }
        Self {
            floats: Scratch::take(all),
            widths: [key, key, value],
            starts,
        }
    }

    fn part(&mut self, part: usize) -> *mut f32 {
        self.floats.as_mut_ptr().wrapping_add(self.starts[part])
    }
}

/// What chunks of a head's tokens are told, a number each.
struct Gates {
    kept: [f32; CHUNK],
    learned: [f32; CHUNK],
    alike: [f32; CHUNK],
}

impl Head<'_> {
    /// # Safety
    /// [`Simd`]'s contract; sizes are checked, and the results are this thread's.
    #[inline(always)]
    unsafe fn tokens<S: Simd, const V: usize>(&self) {
        let sizes = self.net.sizes;
        let mut room = Room::take(self.net, self.rows.min(CHUNK));
        // SAFETY: by this function's own contract; the room has what each part needs, rows up to whole vectors,
        // and values and the state up to whole blocks.
        unsafe {
            let factors = self.net.norm.load::<S>(sizes.value_dim);
            for (i, run) in self.runs.iter().enumerate() {
                let to = room.part(i);
                run.filter(self.net, room.widths[i], to);
            }
            self.load::<S, V>(room.part(STATE));
            let mut done = 0;
            while done < self.rows {
                let stop = match self.aligned {
                    Some((rows, _)) if rows > done => rows,
                    _ => self.rows,
                };
                let count = CHUNK.min(stop - done);
                self.chunk::<S, V>(&mut room, factors.as_ptr(), done, count);
                done += count;
                match &self.aligned {
                    Some((rows, state)) if *rows == done => {
                        self.store::<S, V>(room.part(STATE), done, state);
                    }
                    _ => {}
                }
            }
            self.store::<S, V>(room.part(STATE), self.rows, &self.behind);
        }
    }

    /// Tokens `done..done + count` of the sequence.
    ///
    /// # Safety
    /// As [`Head::tokens`].
    #[inline(always)]
    unsafe fn chunk<S: Simd, const V: usize>(
        &self,
        room: &mut Room,
        factors: *const f32,
        done: usize,
        count: usize,
    ) {
        let sizes = self.net.sizes;
        let [key_stride, _, value_stride] = room.widths;
        // SAFETY: by this function's own contract.
        unsafe {
            for (i, run) in self.runs.iter().enumerate() {
                let (filter, inputs, to) =
                    (room.part(i), room.part(INPUTS), room.part(QUERIES + i));
                let start = self.first + done;
                run.convolve::<S>(
                    [start, done, count],
                    sizes.width,
                    filter,
                    inputs,
                    to,
                    room.widths[i],
                );
            }
            let [queries, keys, values] = [0, 1, 2].map(|i| room.part(QUERIES + i));
            let mut gates = Gates {
                kept: [0.0; CHUNK],
                learned: [0.0; CHUNK],
                alike: [0.0; CHUNK],
            };
            let short = 1.0 / (sizes.key_dim as f32).sqrt();
            for token in 0..count {
                let row = self.first + done + token;
                let at = token * key_stride;
                let (query, key) = (queries.add(at), keys.add(at));
                normalize::<S>(query, sizes.key_dim, short);
                normalize::<S>(key, sizes.key_dim, 1.0);
                gates.alike[token] = dot::<S>(key, query, sizes.key_dim);
                let forgets = number(&self.a, row) + self.net.step[self.head];
                let forgets = self.net.decay[self.head] * softplus(forgets);
                gates.kept[token] = forgets.exp();
                gates.learned[token] = 1.0 / (1.0 + (-number(&self.b, row)).exp());
            }
            let brought = Brought {
                keys,
                queries,
                key_stride,
                values,
                value_stride,
                kept: &gates.kept[..count],
                learned: &gates.learned[..count],
                alike: &gates.alike[..count],
            };
            let (state, reads) = (room.part(STATE), room.part(READS));
            let block = V * S::LANES;
            for column in (0..sizes.value_dim).step_by(block) {
                let state = state.add(column * sizes.key_dim);
                rule::run::<S, V>(state, sizes.key_dim, &brought, column, reads);
            }
            for token in 0..count {
                let row = self.first + done + token;
                let read = reads.add(token * value_stride);
                self.finish::<S>(row, read, factors, room.part(Z));
            }
        }
    }

    /// `norm(read) · silu(z)` of a row.
    ///
    /// # Safety
    /// As [`Head::tokens`].
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, row: usize, read: *mut f32, factors: *const f32, z: *mut f32) {
        let width = self.net.sizes.value_dim;
        // SAFETY: by this function's own contract.
        unsafe {
            self.net.norm.apply::<S>(read, factors, width);
            load_row::<S>(&self.z, 0, row, z);
            for k in (0..width).step_by(S::LANES) {
                let gate = S::load_f32(z.add(k));
                let gate = S::mul(gate, sigmoid::<S>(gate));
                S::store_f32(read.add(k), S::mul(S::load_f32(read.add(k)), gate));
            }
            store_row::<S>(self.y, self.head, row, read);
        }
    }

    /// The head's matrix, block of columns after block, each `[key_dim, V * LANES]`.
    ///
    /// # Safety
    /// As [`Head::tokens`].
    #[inline(always)]
    unsafe fn load<S: Simd, const V: usize>(&self, state: *mut f32) {
        let (key_dim, width) = (self.net.sizes.key_dim, self.net.sizes.value_dim);
        let block = V * S::LANES;
        // SAFETY: by this function's own contract.
        unsafe {
            for column in (0..width).step_by(block) {
                for i in 0..key_dim {
                    let to = state.add(column * key_dim + i * block);
                    let from = match &self.before {
                        Some(matrices) => matrices.row(self.head, i).cast::<f32>(),
                        None => std::ptr::null(),
                    };
                    for j in (0..block).step_by(S::LANES) {
                        let left = width.saturating_sub(column + j);
                        let numbers = if from.is_null() || left == 0 {
                            S::zero()
                        } else if left >= S::LANES {
                            S::load_f32(from.add(column + j))
                        } else {
                            f32::load_first::<S>(from.add(column + j), left)
                        };
                        S::store_f32(to.add(j), numbers);
                    }
                }
            }
        }
    }

    /// What is remembered behind the first `rows`: the matrix, and the tail of what this head keeps.
    ///
    /// # Safety
    /// As [`Head::tokens`].
    #[inline(always)]
    unsafe fn store<S: Simd, const V: usize>(
        &self,
        state: *const f32,
        rows: usize,
        to: &StateRows<'_>,
    ) {
        let (key_dim, width) = (self.net.sizes.key_dim, self.net.sizes.value_dim);
        let block = V * S::LANES;
        // SAFETY: by this function's own contract.
        unsafe {
            for column in (0..width).step_by(block) {
                for i in 0..key_dim {
                    let from = state.add(column * key_dim + i * block);
                    let to = to.matrices.row(self.head, i).cast::<f32>();
                    for j in (0..block).step_by(S::LANES) {
                        let left = width.saturating_sub(column + j);
                        let numbers = S::load_f32(from.add(j));
                        if left >= S::LANES {
                            S::store_f32(to.add(column + j), numbers);
                        } else if left > 0 {
                            f32::store_first::<S>(to.add(column + j), numbers, left);
                        }
                    }
                }
            }
            for run in self.runs.iter().filter(|run| run.is_kept) {
                run.keep(self.first, rows, self.net.sizes.tail(), to.tail);
            }
        }
    }
}

impl Run<'_> {
    /// The columns' weights, a row of `stride` floats for each position that is seen.
    ///
    /// # Safety
    /// `to` leads to so many rows; the filter has these channels.
    #[inline(always)]
    unsafe fn filter(&self, net: &NetView<'_>, stride: usize, to: *mut f32) {
        let (cols, channels) = (self.rows.layout().cols, net.sizes.channels());
        for i in 0..net.sizes.width {
            let from = &net.filter[i * channels + self.channel..][..cols];
            // SAFETY: by this function's own contract; a row has room for `cols`.
            unsafe {
                to.add(i * stride)
                    .copy_from_nonoverlapping(from.as_ptr(), cols);
                // What no column has is nobody's, but has to be numbers.
                for rest in cols..stride {
                    to.add(i * stride + rest).write(0.0);
                }
            }
        }
    }

    /// `silu(convolution)` of `count` rows from `start` on, which are `done` behind the sequence's first, into
    /// rows of `stride` floats.
    ///
    /// # Safety
    /// [`Simd`]'s contract; the pointers lead to so many rows, of `inputs` `width - 1` more.
    #[inline(always)]
    unsafe fn convolve<S: Simd>(
        &self,
        [start, done, count]: [usize; 3],
        width: usize,
        filter: *const f32,
        inputs: *mut f32,
        to: *mut f32,
        stride: usize,
    ) {
        let cols = self.rows.layout().cols;
        // SAFETY: by this function's own contract.
        unsafe {
            for i in 0..count + width - 1 {
                let row = inputs.add(i * stride);
                for rest in (cols / LANES * LANES..stride).step_by(S::LANES) {
                    S::store_f32(row.add(rest), S::zero());
                }
                // Counted from the first row of the tail.
                let seen = done + i;
                match (&self.tail, seen.checked_sub(width - 1)) {
                    (_, Some(own)) => load_row::<S>(&self.rows, 0, start - done + own, row),
                    (Some(tail), None) => load_row::<S>(tail, 0, seen, row),
                    (None, None) => {
                        for k in (0..stride).step_by(S::LANES) {
                            S::store_f32(row.add(k), S::zero());
                        }
                    }
                }
            }
            for k in (0..cols).step_by(S::LANES) {
                for token in 0..count {
                    let at = inputs.add(token * stride + k);
                    let mut sum = S::mul(S::load_f32(at), S::load_f32(filter.add(k)));
                    for i in 1..width {
                        let weight = S::load_f32(filter.add(i * stride + k));
                        sum = S::mul_add(S::load_f32(at.add(i * stride)), weight, sum);
                    }
                    let out = S::mul(sum, sigmoid::<S>(sum));
                    S::store_f32(to.add(token * stride + k), out);
                }
            }
        }
    }

    /// The last rows that the next token sees, behind the first `rows` of the sequence, whose first is `first`.
    ///
    /// # Safety
    /// `to` has these channels, which are this thread's.
    #[inline(always)]
    unsafe fn keep(&self, first: usize, rows: usize, tail: usize, to: Rows<'_>) {
        let size = to.layout().dtype.size();
        let bytes = self.rows.layout().cols * size;
        for i in 0..tail {
            let to = to.row(0, i).wrapping_add(self.channel * size);
            let seen = rows + i;
            // SAFETY: by this function's own contract; rows have so many bytes, of the same element type.
            unsafe {
                match (&self.tail, seen.checked_sub(tail)) {
                    (_, Some(own)) => to.copy_from(self.rows.row(0, first + own), bytes),
                    (Some(tail), None) => to.copy_from(tail.row(0, seen), bytes),
                    (None, None) => to.write_bytes(0, bytes),
                }
            }
        }
    }
}

/// To a length of `length`, or less if it is nearly none.
///
/// # Safety
/// [`Simd`]'s contract; `x` leads to `n` floats rounded up to whole vectors.
#[inline(always)]
unsafe fn normalize<S: Simd>(x: *mut f32, n: usize, length: f32) {
    // SAFETY: by this function's own contract.
    unsafe {
        let square = dot::<S>(x, x, n) + LENGTH_EPS;
        scale::<S>(x, n, length / square.sqrt());
    }
}

/// `ln(1 + e^x)`.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The first number of a row.
///
/// # Safety
/// It is there.
#[inline(always)]
unsafe fn number(x: &View<'_>, row: usize) -> f32 {
    with_float!(x.layout().dtype, T => {
        // SAFETY: by this function's own contract.
        unsafe { x.row(0, row).cast::<T>().read_unaligned() }.to_f32()
    })
}
