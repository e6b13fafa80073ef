//! The matrices of experts, each by itself or in one array.

use std::cell::OnceCell;

use kernels::graph;
use mlx_core::{Array, Dtype, ops};

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
    /// `[experts, out]`, if they have such.
    biases: Option<Array>,
    /// The same for each, where each is held by itself.
    each_bias: Vec<Array>,
}

impl Matrices {
    pub(crate) fn load(source: &Source<'_>, stack: &arch::Linear<String>) -> Result<Self> {
        let apart = graph::on_cpu()? && source.dtype() != Dtype::Float16;
        let place = source.stack(stack)?;
        let biases = source.stack_biases(stack)?;
        let stacked = match place {
            StackLoader::Each(all) => {
                let each: Vec<Matrix> = all.iter().map(Matrix::as_stored).collect::<Result<_>>()?;
                match apart {
                    true => return Self::apart(each, biases),
                    false => Matrix::stacked(&each)?,
                }
            }
            StackLoader::One(all) => Matrix::as_stored(&all)?,
            StackLoader::Packed {
                weight,
                scales,
                scheme,
            } => Matrix::Quantized {
                weight,
                scales,
                biases: None,
                scheme,
            },
            StackLoader::Floats(all) if apart => Matrix::Dense(all),
            // Rows of a larger array, which then can go.
            StackLoader::Floats(all) => Matrix::Dense(all.contiguous()?),
        };
        match apart {
            true => Self::apart(stacked.each()?, biases),
            false => Ok(Self {
                each: Vec::new(),
                stacked: stacked.into(),
                biases,
                each_bias: Vec::new(),
            }),
        }
    }

    fn apart(each: Vec<Matrix>, biases: Option<Array>) -> Result<Self> {
        let of = |biases: &Array| {
            let rows = biases.dim(1);
            let row = |i: i32| Ok(biases.slice(&[i, 0], &[i + 1, rows])?.reshape(&[rows])?);
            (0..biases.dim(0)).map(row).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            each_bias: biases.as_ref().map(of).transpose()?.unwrap_or_default(),
            each,
            stacked: OnceCell::new(),
            biases,
        })
    }

    /// For operations that have products in them; none if they are held in one array.
    pub(super) fn as_linears(&self) -> Vec<graph::Linear<'_>> {
        let linears = self.each.iter().enumerate();
        let linears = linears.map(|(i, matrix)| graph::Linear {
            weight: matrix.as_weight(),
            bias: self.each_bias.get(i),
        });
        linears.collect()
    }

    /// All of them as one, if they are in one array.
    pub(super) fn as_linear(&self) -> Option<graph::Linear<'_>> {
        Some(graph::Linear {
            weight: self.stacked.get()?.as_weight(),
            bias: self.biases.as_ref(),
        })
    }

    /// All in one, if they are held so.
    pub(super) fn together(&self) -> Option<&Matrix> {
        self.stacked.get().filter(|_| self.each.is_empty())
    }

    /// What is added, `[experts, out]`.
    pub(super) fn biases(&self) -> Option<&Array> {
        self.biases.as_ref()
    }

    /// Rows `x [.., 1, in]` times the matrices that `chosen` names, and their biases: `[chosen.., 1, out]`, with
    /// biases in float32, since a sum in fewer bits would be rounded once more. `sorted` says that they ascend.
    pub(super) fn gathered(&self, x: &Array, chosen: &Array, sorted: bool) -> Result<Array> {
        let y = self.stacked()?.gathered(x, chosen, sorted)?;
        match &self.biases {
            Some(biases) => {
                let biases = ops::take(biases, chosen, 0)?.expand_dims(-2)?;
                let wide = |array: &Array| array.cast(Dtype::Float32);
                Ok(ops::add(&wide(&y)?, &wide(&biases)?)?)
            }
            None => Ok(y),
        }
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
            .chain(&self.biases)
            .chain(&self.each_bias)
            .collect()
    }
}
