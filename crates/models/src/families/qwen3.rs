//! Qwen3, dense (arXiv:2505.09388): pre-norm blocks, normalized queries and keys, SwiGLU.

use kernels::graph::{self, Activation};
use mlx_core::Array;

use super::{Decoder, OnPart};
use crate::Result;
use crate::cache::{AttentionMask, Cache, LayerCache};
use crate::config::{Config, LayerType};
use crate::nn::{Attention, Embedding, GatedMlp, Linear, RmsNorm, Rope};
use crate::weights::Loader;

struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: GatedMlp,
}

impl Block {
    fn load(at: &Loader<'_>, config: &Config) -> Result<Self> {
        let norm = |name: &str| RmsNorm::load(&at.pp(name), config.rms_norm_eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(&at.pp("self_attn"), config, RmsNorm::load)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: GatedMlp::load(&at.pp("mlp"), Activation::Silu)?,
        })
    }

    /// `x` is the residual stream, `h` the same through this block's first norm; returns the stream
    /// behind this block, and that through `next`, the norm that comes then.
    fn forward(
        &self,
        (x, h): (Array, Array),
        rope: &Rope,
        mask: &AttentionMask,
        cache: &mut LayerCache,
        next: &RmsNorm,
    ) -> Result<(Array, Array)> {
        let mixed = self.self_attn.forward(&h, rope, mask, cache)?;
        let after = self.post_attention_layernorm.as_norm();
        let (x, h) = graph::add_rms_norm(&x, &mixed, None, after)?;
        let out = self.mlp.forward(&h)?;
        Ok(graph::add_rms_norm(&x, &out, None, next.as_norm())?)
    }

    fn arrays(&self) -> Vec<&Array> {
        let norms = [&self.input_layernorm, &self.post_attention_layernorm];
        let mut arrays: Vec<&Array> = norms.into_iter().flat_map(RmsNorm::arrays).collect();
        arrays.extend(self.self_attn.arrays());
        arrays.extend(self.mlp.arrays());
        arrays
    }
}

pub(super) struct Qwen3 {
    embed_tokens: Embedding,
    layers: Vec<(Block, LayerType)>,
    norm: RmsNorm,
    /// Absent where the embedding is the head.
    lm_head: Option<Linear>,
    rope: Rope,
}

impl Qwen3 {
    pub(super) fn load(
        config: &Config,
        root: &Loader<'_>,
        head: Option<&Loader<'_>>,
        on_part: &mut OnPart<'_>,
    ) -> Result<Self> {
        let embed_tokens = Embedding::load(&root.pp("embed_tokens"))?;
        on_part(&embed_tokens.arrays())?;
        let mut layers = Vec::with_capacity(config.num_layers());
        for (i, kind) in config.layer_types.iter().enumerate() {
            let block = Block::load(&root.pp("layers").pp(i), config)?;
            on_part(&block.arrays())?;
            layers.push((block, *kind));
        }
        let norm = RmsNorm::load(&root.pp("norm"), config.rms_norm_eps)?;
        let lm_head = head.map(|at| Linear::load(at, false)).transpose()?;
        let rope = Rope::new(&config.rope, config.head_dim)?;
        on_part(&lm_head.iter().flat_map(Linear::arrays).collect::<Vec<_>>())?;
        on_part(&[norm.arrays(), rope.arrays()].concat())?;
        Ok(Self {
            embed_tokens,
            layers,
            norm,
            lm_head,
            rope,
        })
    }
}

impl Decoder for Qwen3 {
    fn hidden_states(&self, ids: &Array, cache: &mut Cache) -> Result<Array> {
        let masks = cache.masks(ids.dim(0))?;
        let x = self.embed_tokens.forward(ids)?.expand_dims(0)?;
        let first = self
            .layers
            .first()
            .map_or(&self.norm, |(block, _)| &block.input_layernorm);
        let mut state = (x.clone(), first.forward(&x)?);
        for (i, (block, kind)) in self.layers.iter().enumerate() {
            let next = self
                .layers
                .get(i + 1)
                .map_or(&self.norm, |(b, _)| &b.input_layernorm);
            let (mask, cache) = (masks.of(*kind), cache.layer_mut(i));
            state = block.forward(state, &self.rope, mask, cache, next)?;
        }
        Ok(state.1)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => self.embed_tokens.as_head(hidden),
        }
    }
}
