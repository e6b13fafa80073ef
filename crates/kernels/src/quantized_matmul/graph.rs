//! The quantized product as a node of MLX's graph.

use mlx_core::quant::{self, Mode, Scheme};
use mlx_core::{Array, Result, host_op};

use super::{Format, Quantized, Scales};
use crate::Cpu;
use crate::graph::{are_floats, dtype, matrix, matrix_mut, on_cpu, with_last};

/// `x dequantize(w)ᵀ`: `x` is `[.., K]`, `weight` packed `[N, K * bits / 32]`, `scales` and `biases`
/// `[N, K / group]`; the result is `[.., N]` in the dtype of `x`.
pub fn quantized_matmul(
    x: &Array,
    weight: &Array,
    scales: &Array,
    biases: Option<&Array>,
    scheme: &Scheme,
) -> Result<Array> {
    let affine = biases.is_none_or(|biases| are_floats(&[scales, biases]));
    let format = format(scheme).filter(|_| affine && are_floats(&[x]) && weight.ndim() == 2);
    let Some(format) = format.filter(|_| x.ndim() >= 1) else {
        return quant::quantized_matmul(x, weight, scales, biases, true, scheme);
    };
    if !on_cpu()? {
        return quant::quantized_matmul(x, weight, scales, biases, true, scheme);
    }
    let (rows, cols) = (weight.dim(0), x.dim(-1));
    let shape = with_last(x, rows);
    let inputs: Vec<&Array> = [x, weight, scales].into_iter().chain(biases).collect();
    host_op::single(
        "quantized_matmul",
        &inputs,
        &shape,
        x.dtype(),
        move |inputs, y| {
            let scales = match (inputs.get(3), dtype(inputs[2].dtype())) {
                (Some(biases), Some(dtype)) => Scales::Affine {
                    scales: inputs[2].bytes()?,
                    biases: biases.bytes()?,
                    dtype,
                },
                _ => Scales::Bytes(inputs[2].bytes()?),
            };
            let packed = inputs[1].bytes()?;
            let w = Quantized::new(format, rows as usize, cols as usize, packed, scales)?;
            let x = matrix(&inputs[0])?;
            Ok(super::quantized_matmul(
                Cpu::shared(),
                x,
                &w,
                matrix_mut(y)?,
            )?)
        },
    )
}

fn format(scheme: &Scheme) -> Option<Format> {
    match scheme.mode {
        Mode::Affine => Format::affine(scheme.bits as usize, scheme.group_size as usize).ok(),
        Mode::Mxfp4 => Some(Format::MXFP4),
        Mode::Mxfp8 => Some(Format::MXFP8),
        Mode::Nvfp4 => Some(Format::NVFP4),
    }
}
