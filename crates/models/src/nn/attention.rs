//! Grouped-query attention.

use std::sync::Arc;

use kernels::graph::{self, Columns, Entry, Heads, Scores, Sinks};
use mlx_core::{Array, Dtype, ops};

use super::linear::Matrix;
use super::{Inputs, Linear, RmsNorm, RotaryEmbedding};
use crate::cache::{AttentionMask, LayerCache};
use crate::weights::Source;
use crate::{Error, Result};

/// The attention of one layer.
pub(crate) struct Attention {
    /// Queries, with the gates if there are any, keys and values, as far as the layer has them.
    pub(super) inputs: Inputs,
    pub(super) o_proj: Linear,
    pub(super) q_norm: Option<RmsNorm>,
    pub(super) k_norm: Option<RmsNorm>,
    /// Of values, without a weight.
    pub(super) v_norm: Option<RmsNorm>,
    kv_heads: i32,
    head_dim: i32,
    /// Which of the model's rotations.
    pub(super) rope: usize,
    scale: f64,
    softcap: Option<f64>,
    /// A score of each head that joins those of its keys: the numbers, and as an array, `[heads]`.
    sinks: Option<(Arc<[f32]>, Array)>,
    /// Whether a gate lies behind each head's query.
    pub(super) gated: bool,
}

/// Where a pass finds a layer.
pub(crate) struct Place<'a> {
    /// All rotations of the model.
    pub(crate) ropes: &'a [RotaryEmbedding],
    pub(crate) mask: &'a AttentionMask,
    pub(crate) cache: &'a mut LayerCache,
    /// Of the first row.
    pub(crate) position: i32,
    /// Of the rows, and of what the cache holds.
    pub(crate) dtype: Dtype,
    /// Keys and values that the layers with this state see, where there are several.
    pub(crate) shown: Option<&'a mut Option<graph::Seen>>,
}

impl Attention {
    pub(crate) fn load(source: &Source<'_>, attention: &arch::Attention<String>) -> Result<Self> {
        let linear = |linear| Linear::load(source, linear);
        let norm = |norm: &Option<_>| norm.as_ref().map(|n| RmsNorm::load(source, n)).transpose();
        let a = attention;
        Ok(Self {
            inputs: Inputs::load(source, a)?,
            o_proj: linear(&a.o)?,
            q_norm: match &a.q_norm {
                Some(norm) => Some(RmsNorm::load_with(source, norm, a.q_factor)?),
                None => None,
            },
            k_norm: norm(&a.k_norm)?,
            v_norm: match a.v_norm {
                Some(eps) => Some(RmsNorm::of_ones(source, a.head_dim, eps)?),
                None => None,
            },
            kv_heads: a.kv_heads as i32,
            head_dim: a.head_dim as i32,
            rope: a.rope,
            scale: a.scale,
            softcap: a.softcap,
            sinks: match &a.sinks {
                Some(name) => {
                    let sinks = source.cast(source.vector(name, 0.0)?)?;
                    let numbers = sinks.cast(Dtype::Float32)?.to_vec::<f32>()?;
                    Some((numbers.into(), sinks))
                }
                None => None,
            },
            gated: a.gated,
        })
    }

    /// What the products multiply with: one matrix for queries, keys and values, and the output's.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        [self.inputs.joined(), Some(self.o_proj.matrix())]
    }

    /// `x [L, hidden]` to the same shape; adds L tokens to the cache, unless another layer has. `plain` are the
    /// matrices, if they have been unpacked.
    pub(crate) fn forward(
        &self,
        x: &Array,
        place: &mut Place<'_>,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        let [inputs, o] = plain;
        let (queries, new) = self.inputs.forward(x, inputs.as_ref())?;
        let (queries, gates) = match self.gated {
            true => self.parted(&queries)?,
            false => (queries, None),
        };
        let mixed = match new {
            Some(new) => self.attend(x.dim(0), queries, new, place)?,
            None => self.attend_to_others(&queries, place)?,
        };
        let mixed = match gates {
            Some(gates) => ops::mul(&mixed, &ops::sigmoid(&gates)?)?,
            None => mixed,
        };
        self.o_proj.forward_with(&mixed, o.as_ref())
    }

    /// Attention to keys and values, of `length` tokens the new ones, that go into the cache.
    fn attend(
        &self,
        length: i32,
        queries: Columns,
        [keys, values]: [Columns; 2],
        place: &mut Place<'_>,
    ) -> Result<Array> {
        let values = match &self.v_norm {
            Some(norm) => {
                let values = values.to_array()?;
                let by_head = values.reshape(&[-1, self.head_dim])?;
                Columns::all(norm.forward(&by_head)?.reshape(values.shape())?)
            }
            None => values,
        };
        let entry = Entry {
            queries,
            keys,
            values,
            query_norm: self.q_norm.as_ref().map(RmsNorm::as_norm),
            key_norm: self.k_norm.as_ref().map(RmsNorm::as_norm),
        };
        let scores = self.scores(&place.ropes[self.rope]);
        let sinks = self.sinks();
        let by = place.ropes[self.rope].at(place.position);
        let mask = place.mask.as_mask();
        let shown = &mut place.shown;
        place
            .cache
            .add(length, self.key_heads(place.dtype), |slot| {
                let Some(shown) = shown else {
                    return Ok(graph::attend(&entry, by, slot, scores, sinks, mask)?);
                };
                let (mixed, seen) = graph::attend_and_show(&entry, by, slot, scores, sinks, mask)?;
                **shown = Some(seen);
                Ok(mixed)
            })
    }

    /// Attention to keys and values that another layer has shown.
    fn attend_to_others(&self, queries: &Columns, place: &Place<'_>) -> Result<Array> {
        let seen = place.shown.as_deref().and_then(Option::as_ref);
        let seen = seen.ok_or_else(|| {
            Error::Input("a layer without keys stands before the one that has them".to_owned())
        })?;
        let scores = self.scores(&place.ropes[self.rope]);
        let (norm, by) = (
            self.q_norm.as_ref().map(RmsNorm::as_norm),
            place.ropes[self.rope].at(place.position),
        );
        Ok(graph::attend_to(
            queries,
            norm,
            by,
            seen,
            scores,
            self.sinks(),
            place.mask.as_mask(),
        )?)
    }

    /// Queries and gates, each `[L, heads * head_dim]`, of what has them by turns.
    fn parted(&self, both: &Columns) -> Result<(Columns, Option<Array>)> {
        let both = both.to_array()?;
        let (length, dim) = (both.dim(0), self.head_dim);
        let by_head = both.reshape(&[length, -1, 2 * dim])?;
        let heads = by_head.dim(1);
        let part = |start: i32| -> Result<Array> {
            let part = by_head.slice(&[0, 0, start], &[length, heads, start + dim])?;
            Ok(part.reshape(&[length, heads * dim])?)
        };
        Ok((Columns::all(part(0)?), Some(part(dim)?)))
    }

    /// For operations that have it in them.
    pub(super) fn as_one<'a>(
        &'a self,
        ropes: &'a [RotaryEmbedding],
    ) -> graph::Attention<graph::Linear<'a>, graph::Norm<'a>, graph::Rotation<'a>> {
        let rope = &ropes[self.rope];
        let (queries, [keys, values]) = self.inputs.as_linears();
        graph::Attention {
            queries,
            keys,
            values,
            query_norm: self.q_norm.as_ref().map(RmsNorm::as_norm),
            key_norm: self.k_norm.as_ref().map(RmsNorm::as_norm),
            value_norm: self.v_norm.as_ref().map(|norm| norm.as_norm().eps),
            rotation: rope.at(0),
            scores: self.scores(rope),
            sinks: self.sinks.as_ref().map(|(numbers, _)| Arc::clone(numbers)),
            gated: self.gated,
        }
    }

    /// What becomes of scores.
    pub(super) fn scores(&self, rope: &RotaryEmbedding) -> Scores {
        // Of heads that are rotated in part, the queries' norm has the factor.
        let factor = match rope.dims() == self.head_dim {
            true => rope.score_factor(),
            false => 1.0,
        };
        Scores {
            scale: (self.scale * factor) as f32,
            softcap: self.softcap.map(|cap| cap as f32),
        }
    }

    /// What joins the scores of each head's keys.
    pub(super) fn sinks(&self) -> Option<Sinks<'_>> {
        let sinks = self.sinks.as_ref();
        sinks.map(|(numbers, array)| Sinks { numbers, array })
    }

    /// What the cache holds.
    pub(super) fn key_heads(&self, dtype: Dtype) -> Heads {
        Heads {
            count: self.kv_heads,
            dim: self.head_dim,
            dtype,
        }
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let norms = self.q_norm.iter().chain(&self.k_norm).chain(&self.v_norm);
        let mut arrays = self.inputs.arrays();
        arrays.extend(self.o_proj.arrays());
        arrays.extend(norms.flat_map(RmsNorm::arrays));
        arrays.extend(self.sinks.iter().map(|(_, array)| array));
        arrays
    }
}
