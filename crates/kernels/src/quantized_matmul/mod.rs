//! Products with quantized weights: `y = x · dequantize(w)ᵀ`.
//!
//! Weights stay packed as MLX packs them and are read where they lie, unpacked in registers
//! (few rows of `x`: decode, bound by memory) or tile by tile into cache (many rows: prefill,
//! bound by arithmetic). Sums are float32, of products that are exact or float32, with two exceptions for
//! bfloat16 activations: in a prefill with AVX-512 BF16 the weights, once dequantized, are rounded to
//! bfloat16 too, as [`dequantize`] to that type does, and MLX on a GPU; and with AVX2 or VNNI, and in a decode
//! step of the formats that AVX-512 BF16 has no kernel for, integers of 16 bits are multiplied, for which neighbouring
//! activations share a power of two, which loses less than bfloat16 has lost.

mod affine;
mod dequantize;
mod format;
mod fp;
pub(crate) mod graph;
pub(crate) mod mlx;
pub(crate) mod packed;
mod rows;
mod unpacked;

#[cfg(target_arch = "x86_64")]
mod avx512bf16;
#[cfg(target_arch = "x86_64")]
mod integers;

pub use format::{Format, Mode, Quantized, Scales};

#[cfg(target_arch = "x86_64")]
use crate::Isa;
use crate::error::ensure;
use crate::gemm::{PackedX, Word, is_bf16};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

/// The most rows of `x` for which weights are unpacked in registers; their results do not depend on how many
/// they are.
pub(crate) const FEW: usize = 16;

/// `y = x · wᵀ`: `x` is `[M, K]`, `w` is `[N, K]`, `y` is `[M, N]`. The element types of `x` and `y`
/// are free.
///
/// # Errors
/// When the sizes disagree.
pub fn quantized_matmul(cpu: &Cpu, x: View<'_>, w: &Quantized<'_>, y: ViewMut<'_>) -> Result<()> {
    quantized_matmuls(cpu, x, &mut [(*w, y)])
}

/// [`quantized_matmul`] of one `x` with several weights (queries, keys and values; gate and up).
/// For few rows and weights of one format it costs a single fork.
///
/// # Errors
/// When the sizes disagree. No part is computed then.
pub fn quantized_matmuls(
    cpu: &Cpu,
    x: View<'_>,
    parts: &mut [(Quantized<'_>, ViewMut<'_>)],
) -> Result<()> {
    let a = *x.layout();
    for (w, y) in &*parts {
        let b = y.layout();
        ensure!(
            "quantized_matmul",
            [a.planes, a.cols, a.rows] == [1, w.cols(), b.rows]
                && [b.planes, b.cols] == [1, w.rows()],
            "x {:?} times w [{}, {}] transposed does not give y {:?}",
            a.shape(),
            w.rows(),
            w.cols(),
            b.shape()
        );
    }
    ensure!(
        "quantized_matmul",
        a.cols > 0,
        "the rows of x and w are empty"
    );
    let parts: Vec<Part<'_>> = parts
        .iter_mut()
        .filter(|(w, _)| a.rows > 0 && w.rows() > 0)
        .map(|(w, y)| Part { w: *w, y: y.rows() })
        .collect();
    for parts in parts.chunk_by(|a, b| a.w.kind() == b.w.kind()) {
        products(cpu, &x, parts);
    }
    Ok(())
}

/// Weights that are multiplied, and where the product goes.
struct Part<'a> {
    w: Quantized<'a>,
    y: Rows<'a>,
}

/// `y = x · wᵀ` for each part, all of one kind; the sizes fit, and nothing is empty.
fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    if x.layout().rows > FEW {
        #[cfg(target_arch = "x86_64")]
        if is_bf16(x) && integers::many_products(cpu, x, parts) {
            return;
        }
        let x = PackedX::new(cpu, Word::choose(cpu, is_bf16(x)), x);
        for part in parts {
            x.times(cpu, &part.w, part.y);
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if is_bf16(x) {
        match cpu.isa() {
            Isa::Avx512Bf16 if avx512bf16::has_kernel(parts[0].w.format()) => {
                return avx512bf16::products(cpu, x, parts);
            }
            Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 => return integers::products(cpu, x, parts),
            _ => {}
        }
    }
    if affine::has_kernel(&parts[0].w) {
        return affine::products(cpu, x, parts);
    }
    for part in parts {
        rows::product(cpu, x, &part.w, part.y);
    }
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
