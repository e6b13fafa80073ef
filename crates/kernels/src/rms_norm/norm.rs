//! A normalisation whose weights are an array.

use mlx_core::host_op::{Failure, View};
use mlx_core::{Array, Result, fast};

use crate::arrays::{are_floats, matrix};

/// A normalisation: `x / sqrt(mean(x²) + eps) · weight` over the last axis.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    /// Factors, as many as the last axis has elements.
    pub weight: &'a Array,
    /// What is added to the mean square.
    pub eps: f32,
}

impl Norm<'_> {
    pub(crate) fn fits(&self, x: &Array) -> bool {
        x.ndim() >= 1 && self.weight.shape() == [x.dim(-1)] && are_floats(&[x, self.weight])
    }

    pub(super) fn mlx(&self, x: &Array) -> Result<Array> {
        fast::rms_norm(x, Some(self.weight), self.eps)
    }
}

/// The kernel's normalisation with the weight that is this input.
pub(crate) fn norm<'a>(weight: &View<'a>, epsilon: f32) -> Result<super::NormView<'a>, Failure> {
    Ok(super::NormView {
        weight: Some(matrix(weight)?),
        epsilon,
    })
}
