//! Products with dense weights: `y = x · wᵀ`, `w` being `[N, K]` as checkpoints have it.
//!
//! Few rows of `x` are a matter of reading `w` once at the speed of memory ([`crate::stream`]);
//! many are a matter of arithmetic ([`crate::gemm`]).

pub(crate) mod graph;
mod lanes;
mod rows;

use crate::error::ensure;
use crate::gemm::{Dense, PackedX, Word, is_bf16};
use crate::view::Rows;
use crate::{Cpu, Dtype, Result, View, ViewMut};

/// The most rows of `x` for which `w` is not packed; their results do not depend on how many they are.
pub(crate) const FEW: usize = 8;

/// `y = x · wᵀ`: `x` is `[M, K]`, `w` is `[N, K]`, `y` is `[M, N]`, each of any element type.
///
/// Products are exact if both operands are bfloat16 or float16, else float32; sums are float32.
///
/// # Errors
/// When the sizes disagree.
pub fn matmul(cpu: &Cpu, x: View<'_>, w: View<'_>, y: ViewMut<'_>) -> Result<()> {
    matmuls(cpu, x, &mut [(w, y)])
}

/// [`matmul`] of one `x` with several weights (queries, keys and values; gate and up), which for
/// few rows costs a single fork.
///
/// # Errors
/// When the sizes disagree. No part is computed then.
pub fn matmuls(cpu: &Cpu, x: View<'_>, parts: &mut [(View<'_>, ViewMut<'_>)]) -> Result<()> {
    let a = *x.layout();
    for (w, y) in &*parts {
        let (b, c) = (w.layout(), y.layout());
        ensure!(
            "matmul",
            [a.planes, b.planes, c.planes] == [1; 3]
                && [a.rows, a.cols, c.cols] == [c.rows, b.cols, b.rows],
            "x {:?} times w {:?} transposed does not give y {:?}",
            a.shape(),
            b.shape(),
            c.shape()
        );
    }
    ensure!("matmul", a.cols > 0, "the rows of x and w are empty");
    let parts: Vec<(View<'_>, Rows<'_>)> = parts
        .iter_mut()
        .filter(|(w, _)| a.rows > 0 && w.layout().rows > 0)
        .map(|(w, y)| (*w, y.rows()))
        .collect();
    let kind = |w: &View<'_>| -> (Dtype, usize) { (w.layout().dtype, w.layout().row_stride) };
    for parts in parts.chunk_by(|(a, _), (b, _)| kind(a) == kind(b)) {
        let word = Word::choose(cpu, is_bf16(&x) && is_bf16(&parts[0].0));
        if a.rows <= FEW {
            rows::products(cpu, word, &x, parts);
        } else {
            let x = PackedX::new(cpu, word, &x);
            for (w, y) in parts {
                x.times(cpu, &Dense::new(w), *y);
            }
        }
    }
    Ok(())
}
