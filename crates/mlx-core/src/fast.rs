//! MLX's fused operations: normalisation, rotary embedding, attention.

use std::ffi::CStr;

use crate::ffi::{array_op, optional, optional_float, refusal};
use crate::{Array, Result};

/// `x / sqrt(mean(x^2) + eps) * weight` over the last axis, computed in float32 whatever the dtype.
///
/// `weight` has the length of that axis. Source: Zhang and Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    array_op!("rms_norm" [x, weight] "eps {eps}";
        mlx_fast_rms_norm(x.raw(), optional(weight), eps))
}

/// Rotary position embedding of `x`, shape `[B, .., L, D]`: positions along the axis before the
/// last, the first of them at `offset`.
///
/// The first `dims` elements of the last axis rotate, the others pass. `traditional` pairs
/// neighbours (2i, 2i+1), otherwise the halves (i, i + dims/2), as Llama checkpoints want. Pair `i`
/// turns by `position * scale * base^(-2i/dims)`, or by `position * scale / freqs[i]` with `freqs`
/// of shape `[dims/2]`; exactly one of `base` and `freqs` is given. Source: Su et al. 2021,
/// <https://arxiv.org/abs/2104.09864>.
pub fn rope(
    x: &Array,
    dims: i32,
    traditional: bool,
    base: Option<f32>,
    scale: f32,
    offset: i32,
    freqs: Option<&Array>,
) -> Result<Array> {
    array_op!("rope" [x, freqs] "dims {dims}, base {base:?}, scale {scale}, offset {offset}";
    mlx_fast_rope(
        x.raw(), dims, traditional, optional_float(base), scale, offset, optional(freqs),
    ))
}

/// [`rope`] with the offset in an integer array: one number, or one for each of the `B` rows.
pub fn rope_dynamic(
    x: &Array,
    dims: i32,
    traditional: bool,
    base: Option<f32>,
    scale: f32,
    offset: &Array,
    freqs: Option<&Array>,
) -> Result<Array> {
    array_op!("rope" [x, offset, freqs] "dims {dims}, base {base:?}, scale {scale}";
    mlx_fast_rope_dynamic(
        x.raw(), dims, traditional, optional_float(base), scale, offset.raw(), optional(freqs),
    ))
}

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug)]
pub enum SdpaMask<'a> {
    /// All of them.
    None,
    /// Those up to its own position, where the last query stands at the last key.
    Causal,
    /// By an array that broadcasts to `[B, Hq, L, S]`: a bool one keeps where true, any other is
    /// added to the scores and must not have a wider dtype than they.
    Array(&'a Array),
}

/// `softmax(scale * q k^T + mask) v`, with the softmax in float32.
///
/// `q` is `[B, Hq, L, D]`, `k` `[B, Hkv, S, D]`, `v` `[B, Hkv, S, Dv]`, and the result
/// `[B, Hq, L, Dv]`. `Hq` is a multiple of `Hkv`: query head `h` reads key head `h * Hkv / Hq`.
/// Every query must be left at least one key.
pub fn scaled_dot_product_attention(
    q: &Array,
    k: &Array,
    v: &Array,
    scale: f32,
    mask: SdpaMask<'_>,
) -> Result<Array> {
    attention_with_sinks(q, k, v, scale, mask, None)
}

/// [`scaled_dot_product_attention`] where a score of each query head, `sinks [Hq]` of a dtype no wider than the
/// result's, joins those of its keys, and has no value.
pub fn attention_with_sinks(
    q: &Array,
    k: &Array,
    v: &Array,
    scale: f32,
    mask: SdpaMask<'_>,
    sinks: Option<&Array>,
) -> Result<Array> {
    let (mode, array): (&CStr, Option<&Array>) = match mask {
        SdpaMask::None => (c"", None),
        SdpaMask::Causal => (c"causal", None),
        SdpaMask::Array(array) => (c"array", Some(array)),
    };
    if k.ndim() == 4 && k.dim(1) == 0 {
        // MLX divides by it.
        let params = format!("scale {scale}, mask {mode:?}");
        let op = "scaled_dot_product_attention";
        return Err(refusal(
            op,
            &[q, k, v, &array],
            params,
            "there are no key heads",
        ));
    }
    array_op!("scaled_dot_product_attention" [q, k, v, array, sinks] "scale {scale}, mask {mode:?}";
    mlx_fast_scaled_dot_product_attention(
        q.raw(), k.raw(), v.raw(), scale, mode.as_ptr(), optional(array), optional(sinks), false,
    ))
}
