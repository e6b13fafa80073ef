//! Quantized products as a node of MLX's graph.

use mlx_core::host_op::{self, Failure, View};
use mlx_core::{Array, Dtype, Result};

use super::packed::Packed;
use super::{Format, Quantized, Scales};
use crate::Cpu;
use crate::arrays::{are_floats, dtype, matrix, matrix_mut, on_cpu, with_last};

/// `x dequantize(w)ᵀ` for each of `ws`: `x` is `[.., K]`, a result `[.., N]` in the dtype of `x`.
/// Several that share an `x` cost one fork of the threads.
pub fn quantized_matmuls(x: &Array, ws: &[Packed<'_>]) -> Result<Vec<Array>> {
    let formats: Option<Vec<Format>> = ws.iter().map(|w| w.format()).collect();
    let kernels = !ws.is_empty() && x.ndim() > 0 && are_floats(&[x]) && on_cpu()?;
    let Some(formats) = formats.filter(|_| kernels) else {
        return ws.iter().map(|w| super::mlx::product(x, w)).collect();
    };
    let shapes: Vec<Vec<i32>> = ws.iter().map(|w| with_last(x, w.weight.dim(0))).collect();
    let specs: Vec<(&[i32], Dtype)> = shapes.iter().map(|s| (&s[..], x.dtype())).collect();
    let arrays = ws.iter().flat_map(|w| w.arrays());
    let inputs: Vec<&Array> = std::iter::once(x).chain(arrays).collect();
    host_op::call(
        "quantized_matmul",
        &inputs,
        &specs,
        move |inputs, outputs| {
            let x = matrix(&inputs[0])?;
            let mut rest = &inputs[1..];
            let mut parts = Vec::with_capacity(formats.len());
            for (format, y) in formats.iter().zip(outputs) {
                let (own, after) = rest.split_at(format.arrays());
                parts.push((quantized(*format, own)?, matrix_mut(y)?));
                rest = after;
            }
            Ok(super::quantized_matmuls(Cpu::shared(), x, &mut parts)?)
        },
    )
}

/// The rows of `w` at `ids`, int32 `[L]`, as floats `[L, K]` of `dtype`: an embedding.
///
/// Rows are gathered before they are dequantized, so the cost is that of L rows.
pub fn dequantized_rows(w: Packed<'_>, ids: &Array, dtype: Dtype) -> Result<Array> {
    let format = w
        .format()
        .filter(|_| ids.ndim() == 1 && ids.dtype() == Dtype::Int32);
    let (Some(format), true) = (format, on_cpu()?) else {
        return crate::dequantize::graph::dequantized_rows(w, ids, dtype);
    };
    let inputs: Vec<&Array> = std::iter::once(ids).chain(w.arrays()).collect();
    let shape = [ids.dim(0), w.weight.dim(1) * 32 / w.scheme.bits];
    host_op::single(
        "dequantized_rows",
        &inputs,
        &shape,
        dtype,
        move |inputs, y| {
            let ids = inputs[0].elements::<i32>()?;
            // A negative id becomes a row that is not there.
            let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
            let w = quantized(format, &inputs[1..])?;
            Ok(super::dequantize(Cpu::shared(), &w, &rows, matrix_mut(y)?)?)
        },
    )
}

/// The kernel's view of a matrix whose arrays are `inputs`: words, scales, perhaps biases.
pub(crate) fn quantized<'a>(format: Format, inputs: &[View<'a>]) -> Result<Quantized<'a>, Failure> {
    let &[rows, words] = inputs[0].shape() else {
        return Err("packed weights that are no matrix".into());
    };
    let (rows, cols) = (rows as usize, words as usize * 32 / format.bits());
    let scales = match inputs.get(2) {
        Some(biases) => Scales::Affine {
            scales: inputs[1].bytes()?,
            biases: biases.bytes()?,
            dtype: dtype(inputs[1].dtype()).ok_or("scales that are no floats")?,
        },
        None => Scales::Bytes(inputs[1].bytes()?),
    };
    Ok(Quantized::new(
        format,
        rows,
        cols,
        inputs[0].bytes()?,
        scales,
    )?)
}
