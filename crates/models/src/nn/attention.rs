//! Grouped-query attention with normalized queries and keys, as both families have it.

use kernels::graph::{self, Entry, Heads};
use mlx_core::{Array, Dtype};

use super::linear::Matrix;
use super::{Linear, Projections, RmsNorm, Rope};
use crate::Result;
use crate::cache::{AttentionMask, LayerCache};
use crate::config::Config;
use crate::weights::Loader;

/// The attention of one layer.
pub(crate) struct Attention {
    /// Queries, keys and values.
    pub(super) qkv: Projections<3>,
    pub(super) o_proj: Linear,
    pub(super) q_norm: RmsNorm,
    pub(super) k_norm: RmsNorm,
    kv_heads: i32,
    head_dim: i32,
    scale: f64,
}

impl Attention {
    /// `norm` makes a norm of `head_dim` weights; the families differ in how they store them.
    pub(crate) fn load(
        at: &Loader<'_>,
        config: &Config,
        norm: impl Fn(&Loader<'_>, f32) -> Result<RmsNorm>,
    ) -> Result<Self> {
        let linear = |name: &str| Linear::load(&at.pp(name), config.attention_bias);
        Ok(Self {
            qkv: Projections::new([linear("q_proj")?, linear("k_proj")?, linear("v_proj")?])?,
            o_proj: linear("o_proj")?,
            q_norm: norm(&at.pp("q_norm"), config.rms_norm_eps)?,
            k_norm: norm(&at.pp("k_norm"), config.rms_norm_eps)?,
            kv_heads: config.num_key_value_heads as i32,
            head_dim: config.head_dim as i32,
            scale: config.attention_scale,
        })
    }

    /// What the products multiply with: one matrix for queries, keys and values, and the output's.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        [self.qkv.joined(), self.o_proj.matrix()]
    }

    /// `x [L, hidden]` to the same shape; adds L tokens to `cache`. `plain` are the matrices, if they
    /// have been unpacked.
    pub(crate) fn forward(
        &self,
        x: &Array,
        rope: &Rope,
        mask: &AttentionMask,
        cache: &mut LayerCache,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        let [qkv, o] = plain;
        let [queries, keys, values] = self.qkv.forward(x, qkv.as_ref())?;
        let entry = Entry {
            queries,
            keys,
            values,
            query_norm: self.q_norm.as_norm(),
            key_norm: self.k_norm.as_norm(),
        };
        let (length, offset) = (x.dim(0), cache.offset());
        let scale = self.score_scale(rope);
        let mixed = cache.add(length, self.key_heads(x.dtype()), |slot| {
            Ok(graph::attend(
                &entry,
                rope.at(offset),
                slot,
                scale,
                mask.as_mask(),
            )?)
        })?;
        self.o_proj.forward_with(&mixed, o.as_ref())
    }

    /// What scores are multiplied by.
    pub(super) fn score_scale(&self, rope: &Rope) -> f32 {
        (self.scale * rope.score_factor()) as f32
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
        let norms = [&self.q_norm, &self.k_norm];
        let mut arrays = self.qkv.arrays();
        arrays.extend(self.o_proj.arrays());
        arrays.extend(norms.into_iter().flat_map(RmsNorm::arrays));
        arrays
    }
}
