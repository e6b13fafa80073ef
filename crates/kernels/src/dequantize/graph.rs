//! Unpacking as a node of MLX's graph.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use mlx_core::cuda::{self, Architecture, Kernel, Launch, Module, Scalar};
use mlx_core::quant::{self, Mode};
use mlx_core::{Array, Dtype, Result};

use super::{AT_ONCE, SOURCE, THREADS, Variant};
use crate::graph::{exactly, on_cuda};
use crate::quantized_matmul::packed::Packed;

/// All of `w` as floats `[N, K]` of `dtype`. Its arrays begin where MLX's memory does, or at another
/// multiple of 8 bytes.
pub fn dequantized(w: Packed<'_>, dtype: Dtype) -> Result<Array> {
    if on_cuda()?
        && cuda::gpu()?.architecture >= Architecture::new(8, 0)
        && let Some(plan) = Plan::of(&w, dtype)
    {
        return plan.launch();
    }
    quant::dequantize(w.weight, w.scales, w.biases, w.scheme, Some(dtype))
}

/// What our kernel has to know of a matrix.
struct Plan<'a> {
    variant: Variant,
    /// Words, scales and biases.
    inputs: [&'a Array; 3],
    /// The result's.
    dtype: Dtype,
    shape: [i32; 2],
    /// Eights of numbers in it.
    eights: i32,
}

impl<'a> Plan<'a> {
    /// `None` for what the kernel lacks: it has affine matrices whose scales are of the dtype that is
    /// wanted, as in every checkpoint, and sizes that agree.
    fn of(w: &Packed<'a>, dtype: Dtype) -> Option<Self> {
        let (biases, scheme) = (w.biases?, w.scheme);
        let &[rows, groups] = w.scales.shape() else {
            return None;
        };
        let columns = groups.checked_mul(scheme.group_size)?;
        let bits = i64::from(columns) * i64::from(scheme.bits);
        let words = i32::try_from(bits / 32).ok()?;
        let fits = scheme.mode == Mode::Affine
            && scheme.is_supported()
            && (w.weight.dtype(), w.weight.shape()) == (Dtype::Uint32, &[rows, words])
            && biases.shape() == w.scales.shape()
            && [w.scales, biases].iter().all(|a| a.dtype() == dtype);
        let eights = i32::try_from(i64::from(rows) * i64::from(columns) / 8).ok()?;
        (fits && eights > 0).then_some(Self {
            variant: Variant {
                bits: scheme.bits,
                group: scheme.group_size,
                dtype: crate::graph::dtype(dtype)?,
            },
            inputs: [w.weight, w.scales, biases],
            dtype,
            shape: [rows, columns],
            eights,
        })
    }

    fn launch(&self) -> Result<Array> {
        let kernel = compiled(self.variant)?;
        let outputs = [(&self.shape[..], self.dtype)];
        let blocks = self.eights.unsigned_abs().div_ceil(THREADS * AT_ONCE);
        let launch = Launch::new([blocks, 1, 1], [THREADS, 1, 1]);
        // SAFETY: the parameters are the kernel's, compiled for this packing and dtype. It makes
        // `eights` eights of numbers, which is what the output has room for and, by `Plan::of`, what
        // the inputs hold, aligned as `dequantized` asks for; those that are not dense are copied.
        let made = unsafe {
            let scalars = [Scalar::Int(self.eights)];
            kernel.launch(&self.inputs, &outputs, &scalars, launch)
        }?;
        let [made] = exactly(made);
        Ok(made)
    }
}

/// The kernel, compiled once for the process.
fn compiled(variant: Variant) -> Result<Kernel> {
    static COMPILED: LazyLock<Mutex<HashMap<Variant, Kernel>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kernel) = compiled.get(&variant) {
        return Ok(kernel.clone());
    }
    let options = variant.options();
    let options = options.each_ref().map(String::as_str);
    let kernel = Module::compile("dequantize", SOURCE, &options)?.kernel("dequantize")?;
    compiled.insert(variant, kernel.clone());
    Ok(kernel)
}
