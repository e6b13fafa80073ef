//! Grouped-query attention with normalized queries and keys, as both families have it.

use kernels::graph::{self, Heads};
use mlx_core::{Array, Dtype};

use super::{Linear, RmsNorm, Rope};
use crate::Result;
use crate::cache::{AttentionMask, LayerCache};
use crate::config::Config;
use crate::weights::Loader;

/// The attention of one layer.
pub(crate) struct Attention {
    pub(super) q_proj: Linear,
    pub(super) k_proj: Linear,
    pub(super) v_proj: Linear,
    pub(super) o_proj: Linear,
    pub(super) q_norm: RmsNorm,
    pub(super) k_norm: RmsNorm,
    heads: i32,
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
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            o_proj: linear("o_proj")?,
            q_norm: norm(&at.pp("q_norm"), config.rms_norm_eps)?,
            k_norm: norm(&at.pp("k_norm"), config.rms_norm_eps)?,
            heads: config.num_attention_heads as i32,
            kv_heads: config.num_key_value_heads as i32,
            head_dim: config.head_dim as i32,
            scale: config.attention_scale,
        })
    }

    /// `x [1, L, hidden]` to the same shape; adds L tokens to `cache`.
    pub(crate) fn forward(
        &self,
        x: &Array,
        rope: &Rope,
        mask: &AttentionMask,
        cache: &mut LayerCache,
    ) -> Result<Array> {
        let length = x.dim(1);
        let by_head = |y: Array, heads: i32| y.reshape(&[1, length, heads, self.head_dim]);
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [queries, keys, values] = Linear::forward_all(x, projections)?;
        let queries = by_head(queries, self.heads)?;
        let keys = by_head(keys, self.kv_heads)?;
        let values = by_head(values, self.kv_heads)?;

        let offset = cache.offset();
        let queries = rope.forward(&queries, &self.q_norm, offset)?;
        let keys = rope.forward(&keys, &self.k_norm, offset)?;
        let (keys, values) = cache.update(&keys, &values.transpose(&[0, 2, 1, 3])?)?;

        let scale = self.score_scale(rope);
        let mixed = graph::attention(&queries, &keys, &values, scale, mask.as_mask())?;
        self.o_proj.forward(&mixed)
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
        let linear = [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj];
        let norms = [&self.q_norm, &self.k_norm];
        linear
            .into_iter()
            .flat_map(Linear::arrays)
            .chain(norms.into_iter().flat_map(RmsNorm::arrays))
            .collect()
    }
}
