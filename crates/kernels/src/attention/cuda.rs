//! Attention over a cache as a CUDA kernel.
//!
//! MLX's attention is cuDNN's, which makes a plan for every length of a prompt and of a cache: 50 to 80 ms
//! for each new prompt of a 28-layer model, on an H200. Heads longer than 128 it does not have; MLX then
//! writes all scores to memory. This kernel needs no plan. It takes 1.5 times as long as a plan that is there
//! (82 and 53 µs for 16 heads of 128 and 2048 tokens, 130 and 87 for 32), which is a fiftieth of a prompt's
//! time. A single query is left to MLX where that has a kernel for it, which shares the keys out among blocks.

use mlx_core::cuda::{self, Launch, Scalar};
use mlx_core::{Array, Result};

use super::array_mask::Mask;
use super::graph::Sinks;
use super::{MaskView as Rule, Scores};
use crate::Dtype;
use crate::arrays::{dtype, exactly};
use crate::cuda::{Compiled, dtype_option, has_kernels};
use crate::kv::{Slot, reads_in_place};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = crate::with_numbers!("../cuda/tiles.cuh", "fragments.cuh", "attend.cu");

/// Warps of a block, each with queries of its own.
const WARPS: u32 = 4;
/// Queries that a launch has blocks for in its second dimension.
const MOST_QUERIES: i32 = 65535 * 16 * WARPS as i32;

/// What the code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Elements of a head: a multiple of 16, up to 256.
    pub head_dim: u32,
    /// Of everything; not float32.
    pub dtype: Dtype,
    /// Sixteens of a warp's queries: 1, or 2 for heads of up to 128. Each key that is read from shared memory
    /// has_kernels them all, but fewer blocks are there to share the work.
    pub parts: u32,
    /// Whether scores are squashed.
    pub squashes: bool,
    /// Whether a score of each head without a value joins them.
    pub sinks: bool,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![
            dtype_option(self.dtype),
            format!("-DHEAD_DIM={}", self.head_dim),
            format!("-DWARPS={WARPS}"),
            format!("-DPARTS={}", self.parts),
            format!("-DKEYS={}", self.keys()),
        ];
        if self.squashes {
            options.push("-DSQUASH".to_owned());
        }
        if self.sinks {
            options.push("-DSINKS".to_owned());
        }
        options
    }

    /// For `length` queries of so many heads; `None` for what the kernel lacks.
    fn of(
        head_dim: i32,
        dtype: Option<Dtype>,
        heads: u32,
        length: u32,
        [squashes, sinks]: [bool; 2],
    ) -> Result<Option<Self>> {
        let (Ok(head_dim @ 16..=256), Some(dtype @ (Dtype::Bf16 | Dtype::F16))) =
            (u32::try_from(head_dim), dtype)
        else {
            return Ok(None);
        };
        if !head_dim.is_multiple_of(16) || !has_kernels()? {
            return Ok(None);
        }
        // With fewer blocks than these the GPU waits for the last of them.
        let enough = 3 * cuda::gpu()?.multiprocessors;
        let blocks = u64::from(heads) * u64::from(length.div_ceil(32 * WARPS));
        let parts = if head_dim <= 128 && blocks >= enough.into() {
            2
        } else {
            1
        };
        Ok(Some(Self {
            head_dim,
            dtype,
            parts,
            squashes,
            sinks,
        }))
    }

    /// Queries of a block.
    fn queries(&self) -> u32 {
        16 * self.parts * WARPS
    }

    /// Keys of a tile: as many as registers and shared memory have room for.
    fn keys(&self) -> u32 {
        match (self.parts, self.head_dim) {
            (1, ..=128) => 64,
            (1, _) => 32,
            _ => 48,
        }
    }

    /// Bytes that a block asks for: the queries, and two tiles of keys and two of values.
    pub fn shared_memory(&self) -> u32 {
        (4 * self.keys() + self.queries()) * (self.head_dim * 2 + 16)
    }
}

/// What [`super::graph::attend`] gives, of `queries [1, L, heads, head_dim]` that the last writer of `slot`
/// made; `None`, and nothing done, for what the kernel lacks.
pub(super) fn attention(
    queries: &Array,
    slot: &mut Slot,
    scores: Scores,
    sinks: Option<Sinks<'_>>,
    mask: Mask<'_>,
) -> Result<Option<Array>> {
    let (causal, window) = match mask.rule() {
        Some(Rule::None) => (false, 0),
        Some(Rule::Causal) => (true, 0),
        Some(Rule::Window(width @ 1..)) => (true, i32::try_from(width).unwrap_or(i32::MAX)),
        Some(Rule::Around(width @ 1..)) => (false, i32::try_from(width).unwrap_or(i32::MAX)),
        Some(Rule::Window(0) | Rule::Around(0) | Rule::Rows { .. }) | None => return Ok(None),
    };
    let (kept, capacity, visible) = (slot.buffers.heads(), slot.buffers.capacity(), slot.visible);
    let &[1, length @ (1..), heads @ (1..), dim] = queries.shape() else {
        return Ok(None);
    };
    let fits = (dim, queries.dtype()) == (kept.dim, kept.dtype)
        && kept.count > 0
        && heads % kept.count == 0
        && length <= visible.min(MOST_QUERIES)
        && visible <= capacity
        && scores.scale > 0.0
        && scores.softcap.is_none_or(|cap| cap > 0.0)
        && sinks.is_none_or(|s| (s.array.dtype(), s.array.shape()) == (kept.dtype, &[heads][..]))
        // Squashed scores are no operation of MLX's.
        && !(length == 1
            && window == 0
            && scores.softcap.is_none()
            && reads_in_place(dim, kept.dtype));
    let [heads_there, queries_there] = [heads, length].map(i32::unsigned_abs);
    let dtype = dtype(kept.dtype).filter(|_| fits);
    let with = [scores.softcap.is_some(), sinks.is_some()];
    let Some(variant) = Variant::of(dim, dtype, heads_there, queries_there, with)? else {
        return Ok(None);
    };
    static COMPILED: Compiled<Variant> = Compiled::new();
    let kernel = COMPILED.get(variant, "attend", SOURCE, Variant::options)?;
    let blocks = queries_there.div_ceil(variant.queries());
    let launch = Launch {
        shared_memory: variant.shared_memory(),
        // A copy of the buffers could be made before they are written. Everything is dense.
        copy_strided: false,
        ..Launch::new([heads_there, blocks, 1], [32 * WARPS, 1, 1])
    };
    let counts = [kept.count, length, visible, capacity].map(Scalar::Int);
    let mut scalars = counts.to_vec();
    scalars.extend([
        Scalar::Bool(causal),
        Scalar::Int(window),
        Scalar::Float(scores.scale),
        Scalar::Float(scores.softcap.unwrap_or(0.0)),
    ]);
    let [keys, values] = slot.buffers.seen_in_place()?;
    let shape = [length, heads * dim];
    let outputs = [(&shape[..], kept.dtype)];
    let mut inputs = vec![queries, keys, values];
    inputs.extend(sinks.map(|sinks| sinks.array));
    // SAFETY: the parameters are the kernel's, compiled for such heads. It reads `length` queries of
    // `heads` heads and `visible` tokens of the buffers, which have `capacity`, and writes as many sums as
    // there are queries. Sinks are one a head. The queries come from the launch that last wrote the buffers.
    let made = unsafe { kernel.launch(&inputs, &outputs, &scalars, launch) }?;
    let [mixed] = exactly(made);
    Ok(Some(mixed))
}
