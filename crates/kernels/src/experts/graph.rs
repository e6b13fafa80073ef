//! A mixture of experts as nodes of MLX's graph: on CUDA, where all matrices of a kind are one array.

use mlx_core::{Array, Result};

use super::cuda;
use crate::block::graph::Weight;
use crate::gated::Activation;

/// A mixture whose experts are held together.
#[derive(Clone, Copy)]
pub struct Mixture<'a> {
    /// `[count, hidden]`.
    pub router: Weight<'a>,
    /// Experts of a token.
    pub top: usize,
    /// Whether their shares are divided by their sum.
    pub renormalised: bool,
    /// `[count, width, hidden]`.
    pub gate: Weight<'a>,
    /// `[count, width, hidden]`.
    pub up: Weight<'a>,
    /// `[count, hidden, width]`.
    pub down: Weight<'a>,
    /// Of router, gate, up and down, if they have such: `[count]`, twice `[count, width]`, and `[count, hidden]`.
    pub biases: Option<[&'a Array; 4]>,
    /// Of the gate.
    pub activation: Activation,
}

/// The rows of `x [L, hidden]` through a mixture: `[L, hidden]`. With `shared` the rows of its first,
/// `[L, hidden]`, are added, each times the sigmoid of its second, float32 `[L, 1]`.
///
/// Products and their sums are float32; what is inside an expert is rounded to the dtype of `x`, and of many rows
/// also what comes out of each expert. A row has the same bits beside any others, as long as they are few or many
/// both times.
///
/// `None` for what our kernels lack, and on devices other than CUDA.
pub fn mixture(
    x: &Array,
    by: &Mixture<'_>,
    shared: Option<(&Array, &Array)>,
) -> Result<Option<Array>> {
    cuda::mixture(x, by, shared)
}

/// The rows of `x [L, K]` times those of `weight [N, K]`, for few of these: float32 `[L, N]`, not rounded on the
/// way. `None` for what our kernels lack, and on devices other than CUDA.
pub fn logits(x: &Array, weight: Weight<'_>) -> Result<Option<Array>> {
    cuda::logits(x, weight)
}
