//! From the products of an attention's input to its queries and the cache, as a CUDA kernel.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Dtype as ArrayDtype, Result};

use super::entry::{Entry, Rotation};
use crate::Dtype;
use crate::arrays::{dtype, exactly};
use crate::cuda::{Compiled, dtype_option, has_kernels};
use crate::kv::Slot;

/// CUDA C++ that needs no header.
pub const SOURCE: &str = crate::with_numbers!("into_cache.cu");

/// Threads of a block.
const THREADS: u32 = 256;

/// What the code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Elements of a head.
    pub head_dim: i32,
    /// Query heads.
    pub heads: i32,
    /// Key heads.
    pub kv_heads: i32,
    /// Of everything.
    pub dtype: Dtype,
    /// Whether queries and keys are normalized.
    pub norms: bool,
    /// Whether the cache is made.
    pub new: bool,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![
            dtype_option(self.dtype),
            format!("-DHEAD_DIM={}", self.head_dim),
            format!("-DHEADS={}", self.heads),
            format!("-DKV_HEADS={}", self.kv_heads),
            format!("-DTHREADS={THREADS}"),
        ];
        if self.norms {
            options.push("-DNORMS".to_owned());
        }
        if self.new {
            options.push("-DNEW".to_owned());
        }
        options
    }

    /// `None` for what the kernel lacks.
    fn of(entry: &Entry<'_>, by: Rotation<'_>, slot: &Slot) -> Option<Self> {
        let heads = slot.buffers.heads();
        let parts = [&entry.queries, &entry.keys, &entry.values];
        let [tokens, _] = entry.queries.rows();
        let variant = Self {
            head_dim: heads.dim,
            heads: entry.queries.width().checked_div(heads.dim)?,
            kv_heads: heads.count,
            dtype: dtype(heads.dtype)?,
            norms: entry.query_norm.is_some(),
            new: slot.buffers.are_to_be_made() && slot.start == 0,
        };
        let widths = [variant.heads, heads.count, heads.count].map(|n| n * heads.dim);
        let norms = [entry.query_norm, entry.key_norm];
        let there = slot.start >= 0
            && slot.start.checked_add(tokens)? <= slot.visible
            && slot.visible <= slot.buffers.capacity();
        let fits = heads.dim % 8 == 0
            && tokens > 0
            && by.offset >= 0
            && by.periods.dtype() == ArrayDtype::Float32
            && by.periods.shape() == [heads.dim / 2]
            && parts.iter().zip(widths).all(|(part, width)| {
                let [rows, apart] = part.rows();
                part.array().dtype() == heads.dtype
                    && (rows, part.width()) == (tokens, width)
                    && apart % 8 == 0
                    && part.start() % 8 == 0
            })
            && norms.iter().all(|norm| norm.is_some() == variant.norms)
            && norms.iter().flatten().all(|norm| {
                (norm.weight.dtype(), norm.weight.shape()) == (heads.dtype, &[heads.dim])
            });
        (fits && there).then_some(variant)
    }
}

/// Queries `[1, L, heads, head_dim]`, with keys and values written into `slot`; `None`, and nothing done,
/// for what the kernel lacks.
pub(crate) fn into_cache(
    entry: &Entry<'_>,
    by: Rotation<'_>,
    slot: &mut Slot,
) -> Result<Option<Array>> {
    if !has_kernels()? {
        return Ok(None);
    }
    let Some(variant) = Variant::of(entry, by, slot) else {
        return Ok(None);
    };
    static COMPILED: Compiled<Variant> = Compiled::new();
    let kernel = COMPILED.get(variant, "rotate_into_cache", SOURCE, Variant::options)?;
    let parts = [&entry.queries, &entry.keys, &entry.values];
    let [tokens, _] = entry.queries.rows();
    let (heads, capacity) = (slot.buffers.heads(), slot.buffers.capacity());
    let mut scalars = Vec::new();
    for part in parts {
        let [_, apart] = part.rows();
        scalars.extend([Scalar::Int(part.start()), Scalar::Int(apart)]);
    }
    let norms = [entry.query_norm, entry.key_norm];
    scalars.extend(norms.map(|norm| Scalar::Float(norm.map_or(0.0, |norm| norm.eps))));
    scalars.push(Scalar::Float(by.scale));
    scalars.extend([by.offset, slot.start, capacity, tokens].map(Scalar::Int));
    let mut inputs: Vec<&Array> = parts.iter().map(|part| part.array()).collect();
    // Without norms the kernel reads no weights.
    inputs.extend(norms.map(|norm| norm.map_or(by.periods, |norm| norm.weight)));
    inputs.push(by.periods);
    let queries = ([1, tokens, variant.heads, heads.dim], heads.dtype);
    let launch = |blocks: i32| Launch {
        // A copy of the buffers would be written instead of them. Everything is dense: products,
        // weights, and buffers.
        copy_strided: false,
        ..Launch::new([blocks.unsigned_abs(), 1, 1], [THREADS, 1, 1])
    };
    if variant.new {
        let room = ([1, heads.count, capacity, heads.dim], heads.dtype);
        let outputs = [&queries, &room, &room].map(|(shape, dtype)| (&shape[..], *dtype));
        // SAFETY: the parameters are the kernel's, compiled for these heads. It reads `tokens` rows of
        // the parts, and writes as many queries, and all `capacity` tokens of keys and values.
        let made = unsafe { kernel.launch(&inputs, &outputs, &scalars, launch(capacity)) }?;
        let [queries, keys, values] = exactly(made);
        slot.buffers.made([keys, values]);
        return Ok(Some(queries));
    }
    slot.buffers.settle_addressed()?;
    let ([keys, values], written) = slot.buffers.in_place()?;
    inputs.extend([keys, values, written.unwrap_or(by.periods)]);
    // Beside the queries a byte, for the next operation on the buffers to depend on: the queries are
    // large, and would live as long as the cache.
    let outputs = [(&queries.0[..], queries.1), (&[1][..], ArrayDtype::Uint8)];
    // SAFETY: the parameters are the kernel's, compiled for these heads. It reads `tokens` rows of the
    // parts, and writes as many queries, and tokens of the buffers from `start` on, for which there is
    // room. No other array has those buffers but views for operations that have been submitted; it
    // depends on the last launch that wrote them, and `written_by` makes the next depend on this one.
    let made = unsafe { kernel.launch(&inputs, &outputs, &scalars, launch(tokens)) }?;
    let [queries, done] = exactly(made);
    slot.buffers.written_by(done);
    Ok(Some(queries))
}
