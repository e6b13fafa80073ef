//! Products with quantized weights: `y = x · dequantize(w)ᵀ`.
//!
//! Weights stay packed as MLX packs them and are read where they lie, unpacked in registers
//! (few rows of `x`: decode, bound by memory) or tile by tile into cache (many rows: prefill,
//! bound by arithmetic). Activations are never quantized, and sums are float32. Products are exact
//! or float32; only in a prefill with bfloat16 activations are the weights, once dequantized,
//! rounded to bfloat16 too, as [`dequantize`] to that type does, and MLX on a GPU.

mod affine;
mod dequantize;
mod format;
mod fp;
pub(crate) mod graph;
mod rows;
mod unpacked;

#[cfg(target_arch = "x86_64")]
mod avx512bf16;

pub use format::{Format, Mode, Quantized, Scales};

use crate::error::ensure;
use crate::gemm::{self, Word, is_bf16};
use crate::{Cpu, Result, View, ViewMut};

/// The most rows of `x` for which weights are unpacked in registers.
const FEW: usize = 16;

/// `y = x · wᵀ`: `x` is `[M, K]`, `w` is `[N, K]`, `y` is `[M, N]`. The element types of `x` and `y`
/// are free.
///
/// # Errors
/// When the sizes disagree.
pub fn quantized_matmul(
    cpu: &Cpu,
    x: View<'_>,
    w: &Quantized<'_>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let (from, to) = (x.layout(), y.layout());
    ensure!(
        "quantized_matmul",
        [from.planes, from.cols, from.rows] == [1, w.cols(), to.rows]
            && [to.planes, to.cols] == [1, w.rows()],
        "x [{}, {}, {}] times w [{}, {}] transposed does not give y [{}, {}, {}]",
        from.planes,
        from.rows,
        from.cols,
        w.rows(),
        w.cols(),
        to.planes,
        to.rows,
        to.cols
    );
    if from.rows == 0 || w.rows() == 0 {
        return Ok(());
    }
    let y = y.rows();
    if from.rows > FEW {
        gemm::product(cpu, Word::choose(cpu, is_bf16(&x)), &x, w, y);
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if avx512bf16::serves(cpu, &x, w) {
        avx512bf16::product(cpu, &x, w, y);
        return Ok(());
    }
    if affine::serves(w) {
        affine::product(cpu, &x, w, y);
    } else {
        rows::product(cpu, &x, w, y);
    }
    Ok(())
}

/// `y[i] = w[rows[i]]`: the listed rows as plain numbers, `y` being `[rows.len(), K]`. An
/// embedding of quantized weights.
///
/// # Errors
/// When the sizes disagree, or there is no such row.
pub fn dequantize(cpu: &Cpu, w: &Quantized<'_>, rows: &[usize], mut y: ViewMut<'_>) -> Result<()> {
    let to = y.layout();
    ensure!(
        "dequantize",
        [to.planes, to.rows, to.cols] == [1, rows.len(), w.cols()],
        "{} rows of {} do not fit y [{}, {}, {}]",
        rows.len(),
        w.cols(),
        to.planes,
        to.rows,
        to.cols
    );
    for &row in rows {
        ensure!(
            "dequantize",
            row < w.rows(),
            "there is no row {row} in {}",
            w.rows()
        );
    }
    unpacked::store(cpu, w, rows, y.rows());
    Ok(())
}
