//! Weights of a few bits: packing, unpacking, and products that read the packed form.
//!
//! A matrix `[.., N, K]` is packed along `K` into uint32 words `[.., N, K * bits / 32]`, with one
//! scale (and, for [`Mode::Affine`], one bias) for each group of `group_size` elements:
//!
//! | mode | element | group | bits | scale |
//! | --- | --- | --- | --- | --- |
//! | affine | `q * scale + bias`, `q` an unsigned integer | 32, 64, 128 | 2, 3, 4, 5, 6, 8 | the matrix's dtype |
//! | mxfp4 | float e2m1 | 32 | 4 | a power of two, e8m0 in a uint8 |
//! | mxfp8 | float e4m3 | 32 | 8 | a power of two, e8m0 in a uint8 |
//! | nvfp4 | float e2m1 | 16 | 4 | float e4m3 in a uint8 |
//!
//! nvfp4's optional second scale for the whole tensor is not exposed: MLX's quantized product has
//! no place for it, and no MLX checkpoint carries it.

use std::ffi::{CStr, c_char};

pub use formats::{Mode, Scheme};
use mlx_sys::mlx_optional_int;

use crate::ffi::{ArrayVec, AsOperand, EMPTY, api, array_op};
use crate::ffi::{op_failure, optional, optional_dtype, optional_int, refusal};
use crate::stream::Stream;
use crate::{Array, Dtype, Result};

fn c_name(mode: Mode) -> &'static CStr {
    match mode {
        Mode::Affine => c"affine",
        Mode::Mxfp4 => c"mxfp4",
        Mode::Mxfp8 => c"mxfp8",
        Mode::Nvfp4 => c"nvfp4",
    }
}

/// The group size, bits and mode as mlx-c takes them. Refuses for `op` a scheme that MLX does not
/// have: by some it would divide, others it would read wrongly.
fn arguments(
    scheme: &Scheme,
    op: &'static str,
    operands: &[&dyn AsOperand],
) -> Result<(mlx_optional_int, mlx_optional_int, *const c_char)> {
    if scheme.is_supported() {
        let name = c_name(scheme.mode).as_ptr();
        return Ok((
            optional_int(scheme.group_size),
            optional_int(scheme.bits),
            name,
        ));
    }
    let supported = match scheme.mode {
        Mode::Affine => "MLX has groups of 32, 64 or 128 and 2, 3, 4, 5, 6 or 8 bits".to_owned(),
        mode => format!("MLX has {} only", mode.defaults()),
    };
    Err(refusal(op, operands, scheme.to_string(), supported))
}

/// A packed matrix.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The elements, in uint32 words `[.., N, K * bits / 32]`.
    pub weight: Array,
    /// One scale a group, `[.., N, K / group_size]`.
    pub scales: Array,
    /// One bias a group, of [`Mode::Affine`] only.
    pub biases: Option<Array>,
}

/// Packs a floating matrix `[.., N, K]`; `K` is a multiple of the group size.
pub fn quantize(w: &Array, scheme: &Scheme) -> Result<Quantized> {
    const OP: &str = "quantize";
    let (group_size, bits, mode) = arguments(scheme, OP, &[&w])?;
    let stream = Stream::current(OP)?;
    let mut out = ArrayVec::empty();
    // SAFETY: the handles and the mode's name are alive; `out` is empty and becomes ours.
    let status = unsafe {
        api().mlx_quantize(
            out.raw_mut(),
            w.raw(),
            group_size,
            bits,
            mode,
            EMPTY,
            stream.raw(),
        )
    };
    let failed = || op_failure(OP, &[&w], scheme.to_string());
    if status != 0 {
        return Err(failed());
    }
    let mut parts = out.to_vec(OP)?.into_iter();
    let (Some(weight), Some(scales)) = (parts.next(), parts.next()) else {
        return Err(failed());
    };
    Ok(Quantized {
        weight,
        scales,
        biases: parts.next(),
    })
}

/// Unpacks a matrix to `dtype`; without one, to the dtype of affine scales and otherwise to
/// bfloat16.
pub fn dequantize(
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    scheme: &Scheme,
    dtype: Option<Dtype>,
) -> Result<Array> {
    let (group_size, bits, mode) = arguments(scheme, "dequantize", &[&w, &scales, &biases])?;
    array_op!("dequantize" [w, scales, biases] "{scheme}"; mlx_dequantize(
        w.raw(),
        scales.raw(),
        optional(biases),
        group_size,
        bits,
        mode,
        EMPTY,
        optional_dtype(dtype),
    ))
}

/// `x` times a packed matrix: `[.., K] x [N, K]^T -> [.., N]` with `transpose`, and
/// `[.., K] x [K, N] -> [.., N]` (packed along `N`) without.
pub fn quantized_matmul(
    x: &Array,
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    transpose: bool,
    scheme: &Scheme,
) -> Result<Array> {
    let (group_size, bits, mode) =
        arguments(scheme, "quantized_matmul", &[&x, &w, &scales, &biases])?;
    array_op!("quantized_matmul" [x, w, scales, biases] "{scheme}, transpose {transpose}";
    mlx_quantized_matmul(
        x.raw(),
        w.raw(),
        scales.raw(),
        optional(biases),
        transpose,
        group_size,
        bits,
        mode,
    ))
}

/// For each index the row of `x` times the packed matrix that it names: `x` is `[.., 1, K]`, whose axes in
/// front match those of `indices` or are 1, the matrices are `[E, N, K]` with scales and biases as [`quantize`]
/// makes them, and the result is `[indices.., 1, N]`.
///
/// `sorted` says that `indices` ascend, which MLX has faster kernels for. An index outside the stack means
/// its last matrix.
pub fn gather_quantized_matmul(
    x: &Array,
    w: &Quantized,
    indices: &Array,
    sorted: bool,
    scheme: &Scheme,
) -> Result<Array> {
    const OP: &str = "gather_quantized_matmul";
    let indices = &crate::ops::matrices_of(indices, &w.weight)?;
    let (weight, scales, biases) = (&w.weight, &w.scales, w.biases.as_ref());
    let (group_size, bits, mode) = arguments(scheme, OP, &[&x, &weight, &scales, &biases])?;
    array_op!("gather_quantized_matmul" [x, weight, scales, biases, indices] "{scheme}, sorted {sorted}";
    mlx_gather_qmm(
        x.raw(),
        weight.raw(),
        scales.raw(),
        optional(biases),
        EMPTY,
        indices.raw(),
        true,
        group_size,
        bits,
        mode,
        sorted,
    ))
}
