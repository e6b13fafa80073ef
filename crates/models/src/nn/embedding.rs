//! The token embedding, which is also the head of models that tie the two.

use kernels::graph::Weight;
use mlx_core::{Array, Dtype};

use super::linear::Matrix;
use crate::Result;
use crate::weights::Source;

/// One row a token.
pub(crate) struct Embedding {
    table: Matrix,
    dtype: Dtype,
}

impl Embedding {
    pub(crate) fn load(source: &Source<'_>) -> Result<Self> {
        Ok(Self {
            table: Matrix::load(&source.embedding())?,
            dtype: source.dtype(),
        })
    }

    /// A table of which rows are read and nothing else is made: it stays as the files have it.
    pub(crate) fn of_rows(source: &Source<'_>, table: &arch::Linear<String>) -> Result<Self> {
        Ok(Self {
            table: Matrix::of_rows(&source.matrix(&table.weight))?,
            dtype: source.dtype(),
        })
    }

    /// `ids [L]` to `[L, hidden]`.
    pub(crate) fn forward(&self, ids: &Array) -> Result<Array> {
        let rows = self.table.rows(ids, self.dtype)?;
        match rows.dtype() == self.dtype {
            true => Ok(rows),
            false => Ok(rows.cast(self.dtype)?),
        }
    }

    /// `x [.., hidden]` to logits `[.., vocab]`.
    pub(crate) fn as_head(&self, x: &Array) -> Result<Array> {
        self.table.apply(x)
    }

    /// The table, for operations that have it in them.
    pub(crate) fn as_weight(&self) -> Weight<'_> {
        self.table.as_weight()
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.table.arrays()
    }
}
