//! Attention over a cache as a CUDA kernel.
//!
//! MLX's attention is cuDNN's, which makes a plan for every pair of a prompt's length and a cache's: 50 to
//! 80 ms for each new prompt of a 28-layer model, on an H200. Heads longer than 128 it does not have; MLX
//! then writes all scores to memory. This kernel needs no plan and takes 1.5 to 1.8 times as long as a plan of
//! cuDNN's does (82 and 53 µs for 16 heads of 128 and 2048 tokens, 160 and 87 for 32), so that serves where
//! the lengths come again and again and the work is large.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Result};

use super::Mask as Rule;
use super::graph::Mask;
use crate::Dtype;
use crate::cuda::{Compiled, dtype_option, serves};
use crate::graph::{dtype, exactly};
use crate::kv::Slot;

/// CUDA C++ that needs no header.
pub const SOURCE: &str = concat!(
    include_str!("../cuda/number.cuh"),
    include_str!("../cuda/tiles.cuh"),
    include_str!("fragments.cuh"),
    include_str!("attend.cu")
);

/// Warps of a block, each with 16 queries.
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
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        vec![
            dtype_option(self.dtype),
            format!("-DHEAD_DIM={}", self.head_dim),
            format!("-DWARPS={WARPS}"),
            format!("-DKEYS={}", self.keys()),
        ]
    }

    /// `None` for what the kernel lacks.
    fn of(head_dim: i32, dtype: Option<Dtype>) -> Option<Self> {
        let head_dim = u32::try_from(head_dim).ok()?;
        let dtype = dtype.filter(|dtype| *dtype != Dtype::F32)?;
        let fits = (16..=256).contains(&head_dim) && head_dim.is_multiple_of(16);
        fits.then_some(Self { head_dim, dtype })
    }

    /// Keys of a tile: as many as leave room for two blocks on a multiprocessor.
    fn keys(&self) -> u32 {
        if self.holds_queries() { 64 } else { 32 }
    }

    /// Whether queries stay in registers.
    fn holds_queries(&self) -> bool {
        self.head_dim <= 128
    }

    /// Bytes: two tiles of keys and two of values, and what queries registers do not hold.
    fn shared_memory(&self) -> u32 {
        let queries = if self.holds_queries() { 0 } else { 16 * WARPS };
        (4 * self.keys() + queries) * (self.head_dim * 2 + 16)
    }
}

/// Whether cuDNN is better: for the whole chunks of long prompts, which come again in the next one, if they
/// are large enough to make up for the launch of a plan.
fn suits_cudnn(heads: i32, dim: i32, length: i32, visible: i32) -> bool {
    /// Tokens: a divisor of a chunk.
    const WHOLE: i32 = 1024;
    /// Products of a query's element and a key's. 8B has 1.7e10 in a chunk of 2048, 0.6B half of that.
    const LARGE: f64 = 1.2e10;
    let work = [heads, dim, length, visible].map(f64::from);
    dim <= 128
        && length % WHOLE == 0
        && visible % WHOLE == 0
        && work.iter().product::<f64>() > LARGE
}

/// What [`super::graph::attend`] gives, of `queries [1, L, heads, head_dim]` that the last writer of `slot`
/// made; `None`, and nothing done, for what the kernel lacks.
pub(super) fn attention(
    queries: &Array,
    slot: &mut Slot,
    scale: f32,
    mask: Mask<'_>,
) -> Result<Option<Array>> {
    let (causal, window) = match mask.rule() {
        Some(Rule::None) => (false, 0),
        Some(Rule::Causal) => (true, 0),
        Some(Rule::Window(width)) => (true, i32::try_from(width).unwrap_or(i32::MAX)),
        Some(Rule::Rows { .. }) | None => return Ok(None),
    };
    let (kept, capacity, visible) = (slot.buffers.heads(), slot.buffers.capacity(), slot.visible);
    let (&[1, length, heads, dim], Some(variant)) =
        (queries.shape(), Variant::of(kept.dim, dtype(kept.dtype)))
    else {
        return Ok(None);
    };
    let fits = (dim, queries.dtype()) == (kept.dim, kept.dtype)
        && kept.count > 0
        && heads % kept.count == 0
        && heads > 0
        && length <= MOST_QUERIES
        && (1..=visible).contains(&length)
        && visible <= capacity
        && (!causal || window >= 0);
    if !fits || suits_cudnn(heads, dim, length, visible) || !serves()? {
        return Ok(None);
    }
    static COMPILED: Compiled<Variant> = Compiled::new();
    let kernel = COMPILED.get(variant, "attend", SOURCE, Variant::options)?;
    let blocks = length.unsigned_abs().div_ceil(16 * WARPS);
    let launch = Launch {
        shared_memory: variant.shared_memory(),
        // A copy of the buffers could be made before they are written. Everything is dense.
        copy_strided: false,
        ..Launch::new([heads.unsigned_abs(), blocks, 1], [32 * WARPS, 1, 1])
    };
    let counts = [kept.count, length, visible, capacity].map(Scalar::Int);
    let mut scalars = counts.to_vec();
    scalars.extend([
        Scalar::Bool(causal),
        Scalar::Int(window),
        Scalar::Float(scale),
    ]);
    let [keys, values] = slot.buffers.seen_in_place()?;
    let shape = [length, heads * dim];
    let outputs = [(&shape[..], kept.dtype)];
    // SAFETY: the parameters are the kernel's, compiled for such heads. It reads `length` queries of
    // `heads` heads and `visible` tokens of the buffers, which have `capacity`, and writes as many sums as
    // there are queries. The queries come from the launch that last wrote the buffers.
    let made = unsafe { kernel.launch(&[queries, keys, values], &outputs, &scalars, launch) }?;
    let [mixed] = exactly(made);
    Ok(Some(mixed))
}
