//! Attention as a node of MLX's graph.

use std::sync::Arc;

use mlx_core::{Array, Dtype, Result, fast, host_op, ops};

use super::array_mask::Mask;
use super::{Scores, cuda};
use crate::Cpu;
use crate::arrays::{are_floats, heads_inside_mut, heads_outside, on_cpu};
use crate::columns::Columns;
use crate::kv::Slot;
use crate::rms_norm::norm::Norm;
use crate::rope;
use crate::rope::entry::{Entered, Entry, Rotation};
use crate::rope::graph::{in_parts, into_cache, norm_rope};

/// A score of each query head that joins those of its keys, and whose weight is given to no value (gpt-oss).
#[derive(Clone, Copy)]
pub struct Sinks<'a> {
    /// The numbers.
    pub numbers: &'a Arc<[f32]>,
    /// The same, of the dtype of queries.
    pub array: &'a Array,
}

/// Attention of L tokens: queries and keys are normalized and rotated, keys and values put into `slot`,
/// which has room for them, and the queries see what `mask` lets them of its visible tokens. The result is
/// `[L, heads · head_dim]`.
///
/// On CUDA the cache is written and read where it lies: the result has to be submitted before the next
/// operation that writes the cache.
pub fn attend(
    entry: &Entry<'_>,
    by: Rotation<'_>,
    slot: &mut Slot,
    scores: impl Into<Scores>,
    sinks: Option<Sinks<'_>>,
    mask: Mask<'_>,
) -> Result<Array> {
    let scores = scores.into();
    let seen = match rope::cuda::into_cache(entry, by, slot)? {
        Some(queries) => match cuda::attention(&queries, slot, scores, sinks, mask)? {
            Some(mixed) => return Ok(mixed),
            None => Entered::of(&queries, slot)?,
        },
        None => in_parts(entry, by, slot)?,
    };
    attention(&seen.queries, &seen.keys, &seen.values, scores, sinks, mask)
}

/// Keys and values `[1, kv_heads, S, head_dim]` that a layer saw, for layers behind it which see the same.
pub struct Seen {
    keys: Array,
    values: Array,
}

/// [`attend`], and what the queries saw: it stays as it is whatever becomes of the slot.
pub fn attend_and_show(
    entry: &Entry<'_>,
    by: Rotation<'_>,
    slot: &mut Slot,
    scores: impl Into<Scores>,
    sinks: Option<Sinks<'_>>,
    mask: Mask<'_>,
) -> Result<(Array, Seen)> {
    let seen = into_cache(entry, by, slot)?;
    let (keys, values) = (&seen.keys, &seen.values);
    let mixed = attention(&seen.queries, keys, values, scores.into(), sinks, mask)?;
    let Entered { keys, values, .. } = seen;
    Ok((mixed, Seen { keys, values }))
}

/// Attention of L tokens `queries [L, heads · head_dim]`, which are normalized and rotated, to what another layer
/// saw. The result is `[L, heads · head_dim]`.
pub fn attend_to(
    queries: &Columns,
    norm: Option<Norm<'_>>,
    by: Rotation<'_>,
    seen: &Seen,
    scores: impl Into<Scores>,
    sinks: Option<Sinks<'_>>,
    mask: Mask<'_>,
) -> Result<Array> {
    let [tokens, _] = queries.rows();
    let by_head = queries
        .to_array()?
        .reshape(&[1, tokens, -1, seen.keys.dim(3)])?;
    let queries = norm_rope(&by_head, norm, by)?;
    let scores = scores.into();
    attention(&queries, &seen.keys, &seen.values, scores, sinks, mask)
}

/// `softmax(scale · q kᵀ + mask) v`: `q` is `[1, Hq, L, D]`, `k` and `v` are `[1, Hkv, S, D]`, the
/// result is `[L, Hq · D]`, as the projection after it takes it.
fn attention(
    q: &Array,
    k: &Array,
    v: &Array,
    scores: Scores,
    sinks: Option<Sinks<'_>>,
    mask: Mask<'_>,
) -> Result<Array> {
    let &[1, heads, length, dim] = q.shape() else {
        return mlx(q, k, v, scores, sinks, mask);
    };
    let same = k.shape() == v.shape() && k.dtype() == v.dtype() && k.ndim() == 4 && k.dim(0) == 1;
    if !same || !are_floats(&[q, k]) || !on_cpu()? {
        return mlx(q, k, v, scores, sinks, mask);
    }
    let (rule, array) = match mask {
        Mask::Array(array) => (None, Some(array)),
        _ => (mask.rule(), None),
    };
    let inputs: Vec<&Array> = [q, k, v].into_iter().chain(array).collect();
    let shape = [length, heads * dim];
    let sinks = sinks.map(|sinks| Arc::clone(sinks.numbers));
    host_op::single("attention", &inputs, &shape, q.dtype(), move |inputs, y| {
        let mask = match rule {
            Some(rule) => rule,
            None => super::MaskView::Rows {
                allowed: inputs[3].bytes()?,
                stride: inputs[1].shape()[2] as usize,
            },
        };
        let (q, k) = (heads_outside(&inputs[0])?, heads_outside(&inputs[1])?);
        let v = heads_outside(&inputs[2])?;
        let out = heads_inside_mut(y, heads as usize)?;
        let sinks = sinks.as_deref();
        let seen = super::Weighed { mask, sinks };
        Ok(super::attention(Cpu::shared(), q, k, v, scores, seen, out)?)
    })
}

fn mlx(
    q: &Array,
    k: &Array,
    v: &Array,
    scores: Scores,
    sinks: Option<Sinks<'_>>,
    mask: Mask<'_>,
) -> Result<Array> {
    let sinks = sinks.map(|sinks| sinks.array);
    let mixed = match scores.softcap {
        Some(_) if sinks.is_some() => {
            let what = "attention: no model has sinks beside scores that are squashed";
            return Err(mlx_core::Error::Native(what.to_owned()));
        }
        Some(cap) => squashed(q, k, v, scores.scale, cap, mask)?,
        None => {
            let mask = match mask {
                Mask::None => fast::SdpaMask::None,
                Mask::Causal => fast::SdpaMask::Causal,
                Mask::Window { array, .. } | Mask::Around { array, .. } | Mask::Array(array) => {
                    fast::SdpaMask::Array(array)
                }
            };
            fast::attention_with_sinks(q, k, v, scores.scale, mask, sinks)?
        }
    };
    let (rows, width) = (mixed.dim(0) * mixed.dim(2), mixed.dim(1) * mixed.dim(3));
    mixed.transpose(&[0, 2, 1, 3])?.reshape(&[rows, width])
}

/// Attention with squashed scores, which MLX's kernels do not have: in float32, with all scores in memory.
fn squashed(
    q: &Array,
    k: &Array,
    v: &Array,
    scale: f32,
    cap: f32,
    mask: Mask<'_>,
) -> Result<Array> {
    let (dtype, queries, dim) = (q.dtype(), q.dim(2), q.dim(3));
    let (kv_heads, keys) = (k.dim(1), k.dim(2));
    let group = q.dim(1) / kv_heads.max(1);
    let wide = |x: &Array| x.cast(Dtype::Float32);
    // A key head's queries as rows of one product.
    let q = wide(q)?.reshape(&[kv_heads, group * queries, dim])?;
    let [k, v] = [k, v].map(|x| wide(x)?.reshape(&[kv_heads, keys, dim]));
    let scores = ops::matmul(&q, &k?.transpose(&[0, 2, 1])?)?;
    let scores = ops::mul(&scores, &Array::scalar(scale / cap)?)?;
    let scores = ops::mul(&ops::tanh(&scores)?, &Array::scalar(cap)?)?;
    let scores = scores.reshape(&[kv_heads, group, queries, keys])?;
    let scores = match mask {
        Mask::None => scores,
        Mask::Causal => hidden(&scores, &causal(queries, keys)?)?,
        Mask::Window { array, .. } | Mask::Around { array, .. } | Mask::Array(array) => {
            hidden(&scores, array)?
        }
    };
    let weights = ops::softmax(&scores, -1, true)?.reshape(&[kv_heads, group * queries, keys])?;
    let mixed = ops::matmul(&weights, &v?)?.reshape(&[1, kv_heads * group, queries, dim])?;
    mixed.cast(dtype)
}

/// `scores [.., L, S]` where `seen [L, S]` is true, and negative infinity elsewhere.
fn hidden(scores: &Array, seen: &Array) -> Result<Array> {
    ops::where_(seen, scores, &Array::scalar(f32::NEG_INFINITY)?)
}

/// True where a query, of which the last belongs to the last key, sees a key: `[L, S]`.
fn causal(queries: i32, keys: i32) -> Result<Array> {
    let index = |start: i32, stop: i32, shape: &[i32]| {
        Array::arange(start.into(), stop.into(), 1.0, Dtype::Int32)?.reshape(shape)
    };
    let query = index(keys - queries, keys, &[queries, 1])?;
    ops::less_equal(&index(0, keys, &[1, keys])?, &query)
}
