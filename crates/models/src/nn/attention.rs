//! Grouped-query attention.

use kernels::graph::{self, Columns, Entry, Heads, Scores};
use mlx_core::{Array, Dtype, ops};

use super::linear::Matrix;
use super::{Linear, Projections, RmsNorm, RotaryEmbedding};
use crate::Result;
use crate::cache::{AttentionMask, LayerCache};
use crate::weights::Source;

/// The attention of one layer.
pub(crate) struct Attention {
    /// Queries, with the gates if there are any, keys and values.
    pub(super) qkv: Projections<3>,
    pub(super) o_proj: Linear,
    pub(super) q_norm: Option<RmsNorm>,
    pub(super) k_norm: Option<RmsNorm>,
    kv_heads: i32,
    head_dim: i32,
    /// Which of the model's rotations.
    pub(super) rope: usize,
    scale: f64,
    softcap: Option<f64>,
    /// Whether a gate lies behind each head's query.
    pub(super) gated: bool,
}

impl Attention {
    pub(crate) fn load(source: &Source<'_>, attention: &arch::Attention<String>) -> Result<Self> {
        let linear = |linear| Linear::load(source, linear);
        let norm = |norm: &Option<_>| norm.as_ref().map(|n| RmsNorm::load(source, n)).transpose();
        let a = attention;
        Ok(Self {
            qkv: Projections::new([linear(&a.q)?, linear(&a.k)?, linear(&a.v)?])?,
            o_proj: linear(&a.o)?,
            q_norm: norm(&a.q_norm)?,
            k_norm: norm(&a.k_norm)?,
            kv_heads: a.kv_heads as i32,
            head_dim: a.head_dim as i32,
            rope: a.rope,
            scale: a.scale,
            softcap: a.softcap,
            gated: a.gated,
        })
    }

    /// What the products multiply with: one matrix for queries, keys and values, and the output's.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        [self.qkv.joined(), Some(self.o_proj.matrix())]
    }

    /// `x [L, hidden]` to the same shape; adds L tokens to `cache`. `plain` are the matrices, if they
    /// have been unpacked.
    pub(crate) fn forward(
        &self,
        x: &Array,
        rope: &RotaryEmbedding,
        mask: &AttentionMask,
        cache: &mut LayerCache,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        let [qkv, o] = plain;
        let [queries, keys, values] = self.qkv.forward(x, qkv.as_ref())?;
        let (queries, gates) = match self.gated {
            true => self.parted(&queries)?,
            false => (queries, None),
        };
        let entry = Entry {
            queries,
            keys,
            values,
            query_norm: self.q_norm.as_ref().map(RmsNorm::as_norm),
            key_norm: self.k_norm.as_ref().map(RmsNorm::as_norm),
        };
        let (length, offset) = (x.dim(0), cache.offset());
        let scores = self.scores(rope);
        let mixed = cache.add(length, self.key_heads(x.dtype()), |slot| {
            Ok(graph::attend(
                &entry,
                rope.at(offset),
                slot,
                scores,
                mask.as_mask(),
            )?)
        })?;
        let mixed = match gates {
            Some(gates) => ops::mul(&mixed, &ops::sigmoid(&gates)?)?,
            None => mixed,
        };
        self.o_proj.forward_with(&mixed, o.as_ref())
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

    /// What becomes of scores.
    pub(super) fn scores(&self, rope: &RotaryEmbedding) -> Scores {
        Scores {
            scale: (self.scale * rope.score_factor()) as f32,
            softcap: self.softcap.map(|cap| cap as f32),
        }
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
        let norms = self.q_norm.iter().chain(&self.k_norm);
        let mut arrays = self.qkv.arrays();
        arrays.extend(self.o_proj.arrays());
        arrays.extend(norms.flat_map(RmsNorm::arrays));
        arrays
    }
}
