//! Unpacking as a node of MLX's graph.

use mlx_core::cuda::{Kernel, Launch, Scalar};
use mlx_core::quant::{self, Mode};
use mlx_core::{Array, Dtype, Result, ops};

use super::{AT_ONCE, ROWS_SOURCE, SOURCE, THREADS, Variant};
use crate::cuda::{Compiled, serves};
use crate::graph::exactly;
use crate::quantized_matmul::packed::Packed;

/// All of `w` as floats `[N, K]` of `dtype`. Its arrays begin where MLX's memory does, or at another
/// multiple of 8 bytes.
pub fn dequantized(w: Packed<'_>, dtype: Dtype) -> Result<Array> {
    if let Some(plan) = Plan::of(&w, dtype)? {
        return plan.launch();
    }
    quant::dequantize(w.weight, w.scales, w.biases, w.scheme, Some(dtype))
}

/// The same of two matrices, in one launch if they are packed alike.
pub(crate) fn dequantized_pair(ws: [Packed<'_>; 2], dtype: Dtype) -> Result<[Array; 2]> {
    if let [Some(one), Some(other)] = [Plan::of(&ws[0], dtype)?, Plan::of(&ws[1], dtype)?]
        && one.variant == other.variant
    {
        return one.launch_with(&other);
    }
    let [one, other] = ws;
    Ok([dequantized(one, dtype)?, dequantized(other, dtype)?])
}

/// The rows of `w` at `ids`, int32 `[L]`, as floats `[L, K]` of `dtype`. On CUDA rows that are not there
/// are undefined.
pub(crate) fn dequantized_rows(w: Packed<'_>, ids: &Array, dtype: Dtype) -> Result<Array> {
    let is_list = ids.ndim() == 1 && ids.dtype() == Dtype::Int32 && ids.size() > 0;
    if let Some(plan) = Plan::of(&w, dtype)?.filter(|_| is_list)
        && let Ok(count @ ..=MOST_ROWS) = u32::try_from(ids.size())
    {
        return plan.launch_rows(ids, count);
    }
    let biases = w.biases.map(|b| ops::take(b, ids, 0)).transpose()?;
    quant::dequantize(
        &ops::take(w.weight, ids, 0)?,
        &ops::take(w.scales, ids, 0)?,
        biases.as_ref(),
        w.scheme,
        Some(dtype),
    )
}

/// Blocks that a launch has in its second dimension.
const MOST_ROWS: u32 = 65535;

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
    fn of(w: &Packed<'a>, dtype: Dtype) -> Result<Option<Self>> {
        Ok(match serves()? {
            true => Self::fitting(w, dtype),
            false => None,
        })
    }

    fn fitting(w: &Packed<'a>, dtype: Dtype) -> Option<Self> {
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
                two: false,
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
        let launch = Launch::new([self.blocks(), 1, 1], [THREADS, 1, 1]);
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

    /// This matrix, and another of the same variant.
    fn launch_with(&self, other: &Self) -> Result<[Array; 2]> {
        let kernel = compiled(Variant {
            two: true,
            ..self.variant
        })?;
        let inputs = [self.inputs, other.inputs].concat();
        let outputs = [self, other].map(|plan| (&plan.shape[..], plan.dtype));
        let blocks = self.blocks();
        let scalars = [self.eights, other.eights, blocks as i32].map(Scalar::Int);
        let launch = Launch::new([blocks + other.blocks(), 1, 1], [THREADS, 1, 1]);
        // SAFETY: as above, for each of the two; the first `blocks` blocks make the first.
        let made = unsafe { kernel.launch(&inputs, &outputs, &scalars, launch) }?;
        Ok(exactly(made))
    }

    fn blocks(&self) -> u32 {
        self.eights.unsigned_abs().div_ceil(THREADS * AT_ONCE)
    }

    /// The `count` rows at `ids`.
    fn launch_rows(&self, ids: &Array, count: u32) -> Result<Array> {
        static COMPILED: Compiled<Variant> = Compiled::new();
        let kernel = COMPILED.get(
            self.variant,
            "dequantize_rows",
            ROWS_SOURCE,
            Variant::options,
        )?;
        let [rows, columns] = self.shape;
        let shape = [ids.dim(0), columns];
        let [words, scales, biases] = self.inputs;
        let eights = columns / 8;
        let blocks = eights.unsigned_abs().div_ceil(THREADS);
        let launch = Launch::new([blocks, count, 1], [THREADS, 1, 1]);
        // SAFETY: as above. It makes `eights` eights of numbers of each of `count` rows, from rows of the
        // matrix that are there.
        let made = unsafe {
            let outputs = [(&shape[..], self.dtype)];
            let scalars = [rows, eights].map(Scalar::Int);
            kernel.launch(&[words, scales, biases, ids], &outputs, &scalars, launch)
        }?;
        let [made] = exactly(made);
        Ok(made)
    }
}

fn compiled(variant: Variant) -> Result<Kernel> {
    static COMPILED: Compiled<Variant> = Compiled::new();
    COMPILED.get(variant, "dequantize", SOURCE, Variant::options)
}
