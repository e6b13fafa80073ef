//! The matrices of experts, each by itself or in one array.

use std::cell::OnceCell;

use kernels::graph;
use mlx_core::{Array, Dtype};

use super::linear::Matrix;
use crate::Result;
use crate::weights::{Source, StackLoader};

/// A matrix for each expert, all of one size and stored alike.
///
/// Kernels on a processor read the matrices of the chosen experts where they lie in the files; MLX's products
/// want one array of all.
pub(crate) struct Matrices {
    /// Empty if they are held in one array.
    each: Vec<Matrix>,
    /// With an axis of experts in front: made when first needed, where each is held by itself.
    stacked: OnceCell<Matrix>,
}

impl Matrices {
    pub(crate) fn load(source: &Source<'_>, stack: &arch::Linear<String>) -> Result<Self> {
        let apart = graph::on_cpu()? && source.dtype() != Dtype::Float16;
        let stacked = match source.stack(stack)? {
            StackLoader::Each(all) => {
                let each: Vec<Matrix> = all.iter().map(Matrix::as_stored).collect::<Result<_>>()?;
                match apart {
                    true => return Ok(Self::apart(each)),
                    false => Matrix::stacked(&each)?,
                }
            }
            StackLoader::One(all) => Matrix::as_stored(&all)?,
            StackLoader::Floats(all) if apart => Matrix::Dense(all),
            // Rows of a larger array, which then can go.
            StackLoader::Floats(all) => Matrix::Dense(all.contiguous()?),
        };
        match apart {
            true => Ok(Self::apart(stacked.each()?)),
            false => Ok(Self {
                each: Vec::new(),
                stacked: stacked.into(),
            }),
        }
    }

    fn apart(each: Vec<Matrix>) -> Self {
        Self {
            each,
            stacked: OnceCell::new(),
        }
    }

    /// For operations that have products in them; `None` if they are held in one array.
    pub(super) fn as_linears(&self) -> Option<Vec<graph::Linear<'_>>> {
        let linears = self.each.iter().map(|matrix| graph::Linear {
            weight: matrix.as_weight(),
            bias: None,
        });
        (!self.each.is_empty()).then(|| linears.collect())
    }

    /// All in one, if they are held so.
    pub(super) fn together(&self) -> Option<&Matrix> {
        self.stacked.get().filter(|_| self.each.is_empty())
    }

    /// All in one, `[experts, out, in]`.
    pub(super) fn stacked(&self) -> Result<&Matrix> {
        if let Some(stacked) = self.stacked.get() {
            return Ok(stacked);
        }
        let made = Matrix::stacked(&self.each)?;
        Ok(self.stacked.get_or_init(|| made))
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let stacked = self.stacked.get().into_iter();
        self.each
            .iter()
            .chain(stacked)
            .flat_map(Matrix::arrays)
            .collect()
    }
}
