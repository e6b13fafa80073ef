//! The keys and values of a layer, in buffers that a GPU's kernels write where they lie.
//!
//! To MLX an array never changes. A cache that is rewritten by every step costs it two results a
//! layer, and, because the results of one operation keep each other alive until it has run, a copy
//! of the whole cache in each step that is submitted before the last one ended. So kernels write
//! into the buffers behind MLX's back, and [`KvBuffers`] is what makes that sound: it alone has
//! handles of the buffers, and it keeps a result of the last operation that wrote them, on which
//! everything that reads or writes them next depends.
//!
//! Where MLX's own operations write, there are two sets of buffers, used by turns ([`turns`]).

pub mod cuda;
pub(crate) mod metal;
mod turns;
mod written;

use mlx_core::{Array, Dtype, Result, host_op, ops};

use crate::Cpu;
use crate::arrays::{exactly, heads_outside, heads_outside_mut, on_cpu};
use crate::vector::copy;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use turns::{Missed, Resting};
pub(crate) use written::Launched;
use written::Written;

/// Key heads of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// How many.
    pub count: i32,
    /// Elements of a key, and of a value.
    pub dim: i32,
    /// Their type.
    pub dtype: Dtype,
}

impl Heads {
    /// Those of an array `[1, heads, L, dim]`.
    pub fn of(array: &Array) -> Self {
        Self {
            count: array.dim(1),
            dim: array.dim(3),
            dtype: array.dtype(),
        }
    }

    /// Bytes of keys and values of so many tokens.
    pub fn bytes(self, tokens: i32) -> usize {
        let axes = [2, self.count, tokens, self.dim].map(|n| n.max(0) as usize);
        axes.iter().product::<usize>() * self.dtype.size()
    }
}

/// Keys and values `[1, heads, capacity, dim]`.
#[derive(Debug)]
pub struct KvBuffers {
    /// Before the buffers, because it is also freed before them.
    written: Written,
    /// Keys and values; `None` before anybody needs them.
    arrays: Option<[Array; 2]>,
    /// The other set, where tokens are added one at a time by MLX's own operations.
    resting: Option<Resting>,
    heads: Heads,
    capacity: i32,
    /// Of these buffers and no others.
    id: u64,
    /// Whether others may have views of the buffers, which are then copied before they are written
    /// in place.
    lent: bool,
}

/// Where a layer's keys and values are.
#[derive(Debug)]
pub struct Slot {
    /// The buffers.
    pub buffers: KvBuffers,
    /// Where the first new token goes.
    pub start: i32,
    /// Tokens that the new ones attend to, from the first on; the mask may hide some.
    pub visible: i32,
}

/// A number that no other buffers have.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl KvBuffers {
    /// Room for `capacity` tokens.
    pub fn new(heads: Heads, capacity: i32) -> Self {
        Self {
            written: Written::default(),
            arrays: None,
            resting: None,
            heads,
            capacity,
            id: next_id(),
            lent: false,
        }
    }

    /// Buffers that nothing else has handles of.
    fn of([keys, values]: [Array; 2]) -> Self {
        let mut made = Self::new(Heads::of(&keys), keys.dim(2));
        made.arrays = Some([keys, values]);
        made
    }

    /// Tokens that there is room for.
    pub fn capacity(&self) -> i32 {
        self.capacity
    }

    /// What the heads are.
    pub fn heads(&self) -> Heads {
        self.heads
    }

    /// Bytes of keys and values, without those of a second set.
    pub fn nbytes(&self) -> usize {
        self.heads.bytes(self.capacity)
    }

    /// Bytes of the second set, if there is one.
    pub fn resting_bytes(&self) -> usize {
        self.resting.as_ref().map_or(0, |_| self.nbytes())
    }

    /// What to evaluate for the buffers to hold everything that was written.
    pub fn arrays(&self) -> Vec<&Array> {
        let buffers = self.arrays.iter().flatten();
        buffers.chain(&self.written.result).collect()
    }

    /// Keys and values, of zeros if there were none.
    fn buffers(&mut self) -> Result<&mut [Array; 2]> {
        Ok(self.parts()?.0)
    }

    /// The same, with what wrote them last.
    fn parts(&mut self) -> Result<(&mut [Array; 2], &Written)> {
        let arrays = match self.arrays.take() {
            Some(arrays) => arrays,
            None => {
                let Heads { count, dim, dtype } = self.heads;
                let room = || Array::zeros(&[1, count, self.capacity, dim], dtype);
                [room()?, room()?]
            }
        };
        Ok((self.arrays.insert(arrays), &self.written))
    }

    /// Larger buffers that begin with the first `held` tokens; these stay as they are.
    pub fn grown(&mut self, held: i32, capacity: i32) -> Result<Self> {
        self.rearranged(std::slice::from_ref(&(0..held)), capacity)
    }

    /// New buffers that begin with the tokens of `ranges`, in this order; these stay as they are.
    pub fn rearranged(&mut self, ranges: &[Range<i32>], capacity: i32) -> Result<Self> {
        self.settle_addressed()?;
        if let Some(made) = self.on_gpu(ranges, capacity)? {
            return Ok(Self::of(made));
        }
        let held: i32 = ranges.iter().map(|range| range.end - range.start).sum();
        if !on_cpu()? {
            self.written.settle()?;
            let room = |like: &Array| {
                Array::zeros(
                    &[1, like.dim(1), capacity - held, like.dim(3)],
                    like.dtype(),
                )
            };
            let join = |from: &Array| -> Result<Array> {
                let mut parts = Vec::new();
                for range in ranges.iter().filter(|range| !range.is_empty()) {
                    parts.push(tokens(from, range.start, range.end)?);
                }
                if capacity > held {
                    parts.push(room(from)?);
                }
                ops::concatenate(&parts.iter().collect::<Vec<_>>(), 2)
            };
            let [keys, values] = self.buffers()?;
            return Ok(Self::of([join(keys)?, join(values)?]));
        }
        self.buffers()?;
        let heads = self.heads();
        let shape = [1, heads.count, capacity, heads.dim];
        let spec = (&shape[..], heads.dtype);
        let inputs: Vec<&Array> = self.arrays();
        let ranges: Vec<Range<usize>> = ranges
            .iter()
            .map(|range| range.start as usize..range.end as usize)
            .collect();
        let made = host_op::call("kv_rearranged", &inputs, &[spec, spec], move |from, to| {
            for (from, to) in from.iter().zip(to) {
                let (from, mut to) = (heads_outside(from)?, heads_outside_mut(to)?);
                let mut at = 0;
                for range in &ranges {
                    let next = at + range.len();
                    copy(
                        Cpu::shared(),
                        from.slice_rows(range.clone())?,
                        to.slice_rows(at..next)?,
                    )?;
                    at = next;
                }
            }
            Ok(())
        })?;
        Ok(Self::of(exactly(made)))
    }

    /// Writes the keys and values `[1, heads, L, dim]` of tokens from `start` on, by MLX's own
    /// operations. If they cannot be built, the buffers stay as they are.
    pub fn write(&mut self, keys: &Array, values: &Array, start: i32) -> Result<()> {
        self.written.settle()?;
        self.buffers()?;
        let Some(active) = &self.arrays else {
            unreachable!("the buffers were just made");
        };
        let tokens = Missed::new(keys, values, start);
        let (arrays, resting) = match keys.dim(2) {
            1 => {
                let turn = turns::add(active, self.resting.as_ref(), tokens)?;
                (turn.arrays, Some(turn.resting))
            }
            // A prompt has no use for a second set.
            _ => (tokens.added_to(active)?, None),
        };
        // The handles of what was written end here, so that it can be written in place.
        (self.arrays, self.resting) = (Some(arrays), resting);
        (self.id, self.lent) = (next_id(), false);
        Ok(())
    }

    /// Keys and values of the first `count` tokens, `[1, heads, count, dim]`, for MLX's own
    /// operations.
    pub fn first(&mut self, count: i32) -> Result<[Array; 2]> {
        self.written.settle()?;
        self.lent = true;
        self.views(count)
    }

    /// The same for attention that is submitted before the next operation writes the buffers, and that
    /// takes queries which the last one that wrote them made.
    pub(crate) fn seen_with_queries(&mut self, count: i32) -> Result<[Array; 2]> {
        let made_by_mlx = self.written.result.is_none();
        if made_by_mlx || reads_in_place(self.heads.dim, self.heads.dtype) {
            return self.views(count);
        }
        match self.on_gpu(std::slice::from_ref(&(0..count)), count)? {
            Some(copies) => Ok(copies),
            None => self.first(count),
        }
    }

    /// The buffers, for an operation that reads them where they lie, takes what their last writer made, and is
    /// submitted before the next one writes them.
    pub(crate) fn seen_in_place(&mut self) -> Result<[&Array; 2]> {
        Ok(self.buffers()?.each_ref())
    }

    /// The same for attention that is one operation, takes what the last writer made, and is submitted before
    /// the next operation writes the buffers.
    pub(crate) fn views(&mut self, count: i32) -> Result<[Array; 2]> {
        let [keys, values] = self.buffers()?;
        Ok([tokens(keys, 0, count)?, tokens(values, 0, count)?])
    }

    /// The buffers and the operation that they wait for, to be written in place; whoever does so
    /// calls [`KvBuffers::written_by`].
    pub(crate) fn in_place(&mut self) -> Result<([&Array; 2], Option<&Array>)> {
        self.resting = None;
        if self.lent {
            let capacity = self.capacity;
            // Of one part a concatenation would be no copy.
            *self = self.rearranged(&[0..1, 1..capacity], capacity)?;
        }
        let (buffers, written) = self.parts()?;
        Ok((buffers.each_ref(), written.result.as_ref()))
    }

    /// Whether there are no buffers yet, so that an operation that writes the first tokens may make them.
    pub(crate) fn are_to_be_made(&self) -> bool {
        self.arrays.is_none()
    }

    /// Takes buffers that were made with tokens in them.
    pub(crate) fn made(&mut self, buffers: [Array; 2]) {
        *self = Self::of(buffers);
    }

    /// See [`cuda::rearranged`].
    fn on_gpu(&mut self, ranges: &[Range<i32>], capacity: i32) -> Result<Option<[Array; 2]>> {
        let old_capacity = self.capacity;
        let (heads, after) = (self.heads, self.written.result.clone());
        let from = cuda::Old {
            buffers: self.buffers()?,
            capacity: old_capacity,
            heads,
            after,
        };
        cuda::rearranged(&from, ranges, capacity)
    }

    /// Waits for a kernel that knows the buffers by their addresses, if that wrote them last: nothing
    /// but its own kind may be put behind it, since it must not run any more once it failed.
    pub(crate) fn settle_addressed(&mut self) -> Result<()> {
        match self.written.by_address {
            Some(_) => self.written.settle(),
            None => Ok(()),
        }
    }

    /// Says that the operation whose result this is writes the buffers.
    pub(crate) fn written_by(&mut self, result: Array) {
        self.written.result = Some(result);
        self.written.by_address = None;
    }

    /// Says the same of a kernel that knows the buffers by their addresses.
    pub(crate) fn written_by_address(&mut self, result: Array, launched: Launched) {
        self.written_by(result);
        self.written.by_address = Some(launched);
    }

    /// A number that stays the same as long as the buffers are the same.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

/// Whether MLX's attention for such heads is one kernel on CUDA, which reads keys and values where they
/// lie. Otherwise it is several, of which some may copy them before the queries are there.
pub(crate) fn reads_in_place(dim: i32, dtype: Dtype) -> bool {
    // With this variable MLX can be told to do without cuDNN.
    let without_cudnn = std::env::var_os("MLX_CUDA_USE_CUDNN_SDPA").is_some();
    let half = matches!(dtype, Dtype::Bfloat16 | Dtype::Float16);
    half && matches!(dim, 64 | 96 | 128) && !without_cudnn
}

/// `array[:, :, start..stop, :]`.
fn tokens(array: &Array, start: i32, stop: i32) -> Result<Array> {
    let shape = array.shape();
    if start == 0 && stop == shape[2] {
        return Ok(array.clone());
    }
    array.slice(&[0, 0, start, 0], &[1, shape[1], stop, shape[3]])
}
