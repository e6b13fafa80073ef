//! Unpacking as a node of MLX's graph.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::quant::{self, Mode};
use mlx_core::{Array, Dtype, Result, ops};

use super::{AT_ONCE, MATRICES, ROWS_SOURCE, SOURCE, THREADS, Variant};
use crate::arrays::exactly;
use crate::cuda::{Compiled, has_kernels};
use crate::quantized_matmul::packed::Packed;

/// All of `w` as floats `[N, K]` of `dtype`. Its arrays begin where MLX's memory does, or at another
/// multiple of 8 bytes.
pub fn dequantized(w: Packed<'_>, dtype: Dtype) -> Result<Array> {
    if let Some(plan) = Plan::of(&w, dtype)? {
        let [made] = exactly(launch(&[plan])?);
        return Ok(made);
    }
    quant::dequantize(w.weight, w.scales, w.biases, w.scheme, Some(dtype))
}

/// The same of several matrices, in one launch if they are packed alike.
pub(crate) fn all_dequantized(ws: &[Packed<'_>], dtype: Dtype) -> Result<Vec<Array>> {
    let plans = ws.iter().map(|w| Plan::of(w, dtype));
    let plans: Vec<Option<Plan<'_>>> = plans.collect::<Result<_>>()?;
    let plans: Option<Vec<Plan<'_>>> = plans.into_iter().collect();
    match plans {
        Some(plans)
            if (1..=MATRICES).contains(&plans.len())
                && plans.iter().all(|plan| plan.variant == plans[0].variant) =>
        {
            launch(&plans)
        }
        _ => ws.iter().map(|w| dequantized(*w, dtype)).collect(),
    }
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
    // Once for all of them.
    let shortest = w.arrays().min_by_key(|array| array.dim(0));
    let ids = ops::clamped(ids, shortest.unwrap_or(w.weight), 0)?;
    // SAFETY: the ids were clamped to the rows that each of these arrays has.
    let take = |array: &Array| unsafe { ops::take_unchecked(array, &ids, 0) };
    // MLX multiplies in the dtype of the scales.
    let scale = |array: &Array| {
        let taken = take(array)?;
        match dtype == Dtype::Float32 && taken.dtype().is_floating() {
            true => taken.cast(dtype),
            false => Ok(taken),
        }
    };
    let biases = w.biases.map(scale).transpose()?;
    quant::dequantize(
        &take(w.weight)?,
        &scale(w.scales)?,
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
        Ok(match has_kernels()? {
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
                dtype: crate::arrays::dtype(dtype)?,
                matrices: 1,
            },
            inputs: [w.weight, w.scales, biases],
            dtype,
            shape: [rows, columns],
            eights,
        })
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

/// All matrices of `plans`, up to [`MATRICES`] of one variant.
fn launch(plans: &[Plan<'_>]) -> Result<Vec<Array>> {
    let variant = Variant {
        matrices: plans.len(),
        ..plans[0].variant
    };
    static COMPILED: Compiled<Variant> = Compiled::new();
    let kernel = COMPILED.get(variant, "dequantize", SOURCE, Variant::options)?;
    let inputs: Vec<&Array> = plans.iter().flat_map(|plan| plan.inputs).collect();
    let outputs = plans.iter().map(|plan| (&plan.shape[..], plan.dtype));
    let outputs: Vec<(&[i32], Dtype)> = outputs.collect();
    let (mut scalars, mut blocks) = (Vec::new(), 0);
    for plan in plans {
        scalars.extend([plan.eights, blocks as i32].map(Scalar::Int));
        blocks += plan.eights.unsigned_abs().div_ceil(THREADS * AT_ONCE);
    }
    let launch = Launch::new([blocks, 1, 1], [THREADS, 1, 1]);
    // SAFETY: the parameters are the kernel's, compiled for this packing and dtype and so many matrices.
    // It makes `eights` eights of numbers of each, which is what the output has room for and, by
    // `Plan::of`, what the inputs hold, aligned as `dequantized` asks for; those that are not dense are
    // copied.
    unsafe { kernel.launch(&inputs, &outputs, &scalars, launch) }
}
