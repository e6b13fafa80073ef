//! Products with dense weights: `y = x · wᵀ`, `w` being `[N, K]` as checkpoints have it.
//!
//! Few rows of `x` are a matter of reading `w` once at the speed of memory ([`rows`]); many are a
//! matter of arithmetic ([`crate::gemm`]).

pub(crate) mod graph;
mod rows;
mod stream;

use crate::error::ensure;
use crate::gemm::{self, Dense, Word, is_bf16};
use crate::{Cpu, Result, View, ViewMut};

/// The most rows of `x` for which `w` is not packed.
const FEW: usize = 8;

/// `y = x · wᵀ`: `x` is `[M, K]`, `w` is `[N, K]`, `y` is `[M, N]`, each of any element type.
///
/// Products are exact if both operands are bfloat16 or float16, else float32; sums are float32.
///
/// # Errors
/// When the sizes disagree.
pub fn matmul(cpu: &Cpu, x: View<'_>, w: View<'_>, mut y: ViewMut<'_>) -> Result<()> {
    let (a, b, c) = (x.layout(), w.layout(), y.layout());
    ensure!(
        "matmul",
        [a.planes, b.planes, c.planes] == [1; 3]
            && [a.rows, a.cols, c.cols] == [c.rows, b.cols, b.rows],
        "x [{}, {}, {}] times w [{}, {}, {}] transposed does not give y [{}, {}, {}]",
        a.planes,
        a.rows,
        a.cols,
        b.planes,
        b.rows,
        b.cols,
        c.planes,
        c.rows,
        c.cols
    );
    if a.rows == 0 || b.rows == 0 {
        return Ok(());
    }
    ensure!("matmul", a.cols > 0, "the rows of x and w are empty");
    let y = y.rows();
    let word = Word::choose(cpu, is_bf16(&x) && is_bf16(&w));
    if a.rows <= FEW {
        rows::product(cpu, word, &x, &w, y);
    } else {
        gemm::product(cpu, word, &x, &Dense::new(&w), y);
    }
    Ok(())
}
