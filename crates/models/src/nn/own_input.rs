//! Inputs that layers have of their own (Gemma 3n and 4): of each token a row of a table, together with a projection of
//! its embedding.

use kernels::decode::OwnInputs;
use kernels::graph::{self, Activation, Columns, OwnInput as KernelOwnInput};
use mlx_core::{Array, ops};

use super::{Embedding, Linear, RmsNorm};
use crate::Result;
use crate::weights::Source;

/// The inputs of all layers.
pub(crate) struct PerLayerInputs {
    /// Read row by row, where it lies.
    table: Embedding,
    table_scale: Option<Array>,
    projection: Linear,
    projection_scale: Array,
    norm: RmsNorm,
    scale: Array,
    /// Of the table, the projection and the sum.
    factors: [f64; 3],
    width: i32,
    /// How many rows the table has, where a token may have none.
    rows: Option<i32>,
}

impl PerLayerInputs {
    /// Of a model of `vocab` tokens.
    pub(crate) fn load(
        source: &Source<'_>,
        of: &arch::PerLayerInputs<String>,
        vocab: usize,
    ) -> Result<Self> {
        let rows = of.embedding.table.rows;
        let scalar = |x: f64| Ok::<_, crate::Error>(Array::scalar_of(x, source.dtype())?);
        Ok(Self {
            table: Embedding::of_rows(source, &of.embedding.table)?,
            table_scale: of.embedding.scale.map(scalar).transpose()?,
            projection: Linear::load(source, &of.projection)?,
            projection_scale: scalar(of.projection_scale)?,
            norm: RmsNorm::load(source, &of.norm)?,
            scale: scalar(of.scale)?,
            factors: [
                of.embedding.scale.unwrap_or(1.0),
                of.projection_scale,
                of.scale,
            ],
            width: of.width as i32,
            rows: (rows < vocab).then_some(rows as i32),
        })
    }

    /// Of the tokens `ids [L]` with the embeddings `x [L, hidden]`: `[L, layers * width]`. Tokens for which the table
    /// has no row have that of the first.
    pub(crate) fn forward(&self, ids: &Array, x: &Array) -> Result<Array> {
        let mut rows = match self.rows {
            None => self.table.forward(ids)?,
            Some(count) => {
                let there = ops::less(ids, &Array::scalar(count)?)?;
                let first = Array::scalar(0i32)?;
                self.table.forward(&ops::where_(&there, ids, &first)?)?
            }
        };
        if let Some(scale) = &self.table_scale {
            rows = ops::mul(&rows, scale)?;
        }
        let projected = ops::mul(&self.projection.forward(x)?, &self.projection_scale)?;
        let by_layer = projected.reshape(&[-1, self.width])?;
        let normed = self.norm.forward(&by_layer)?.reshape(rows.shape())?;
        Ok(ops::mul(&ops::add(&normed, &rows)?, &self.scale)?)
    }

    /// For operations that have it in them.
    pub(super) fn as_one(&self) -> OwnInputs<'_> {
        let [table_scale, projection_scale, scale] = self.factors;
        OwnInputs {
            table: self.table.as_weight(),
            table_scale,
            projection: self.projection.as_linear(),
            projection_scale,
            norm: self.norm.as_norm(),
            scale,
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = self.table.arrays();
        arrays.extend(self.table_scale.iter());
        arrays.extend(self.projection.arrays());
        arrays.extend([&self.projection_scale, &self.scale]);
        arrays.extend(self.norm.arrays());
        arrays
    }
}

/// What a layer adds of its own input.
pub(crate) struct OwnInput {
    gate: Linear,
    activation: Activation,
    projection: Linear,
    norm: RmsNorm,
    /// Where the layer's input begins among those of all.
    column: i32,
}

impl OwnInput {
    /// Of layer `layer`.
    pub(super) fn load(
        source: &Source<'_>,
        of: &arch::PerLayer<String>,
        layer: usize,
    ) -> Result<Self> {
        Ok(Self {
            gate: Linear::load(source, &of.gate)?,
            activation: super::mlp::activation(of.activation),
            projection: Linear::load(source, &of.projection)?,
            norm: RmsNorm::load(source, &of.norm)?,
            column: (layer * of.gate.rows) as i32,
        })
    }

    /// `x [L, hidden]` with what is added to it; `inputs [L, ..]` are those of all layers.
    pub(super) fn add(&self, x: &Array, inputs: &Array) -> Result<Array> {
        let out = self.projected(x, inputs)?;
        Ok(graph::residual(x, &out, Some(self.norm.as_norm()))?)
    }

    /// What is added.
    pub(super) fn of(&self, x: &Array, inputs: &Array) -> Result<Array> {
        self.norm.forward(&self.projected(x, inputs)?)
    }

    /// The same before its norm.
    fn projected(&self, x: &Array, inputs: &Array) -> Result<Array> {
        let gate = Columns::all(self.gate.forward(x)?);
        let own = Columns::of(inputs, self.column, self.gate.outputs());
        let inner = graph::gated(self.activation, &gate, &own)?;
        self.projection.forward(&inner)
    }

    /// For operations that have it in them.
    pub(super) fn as_one(&self) -> KernelOwnInput<graph::Linear<'_>, graph::Norm<'_>> {
        KernelOwnInput {
            gate: self.gate.as_linear(),
            activation: self.activation,
            projection: self.projection.as_linear(),
            norm: self.norm.as_norm(),
            column: self.column.unsigned_abs() as usize,
        }
    }

    pub(super) fn linears(&self) -> [&Linear; 2] {
        [&self.gate, &self.projection]
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        [
            self.gate.arrays(),
            self.projection.arrays(),
            self.norm.arrays(),
        ]
        .concat()
    }
}
