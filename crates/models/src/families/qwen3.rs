//! Qwen3, dense (arXiv:2505.09388): pre-norm blocks, normalized queries and keys, SwiGLU.

use mlx_core::{Array, ops};

use super::{Decoder, OnPart};
use crate::Result;
use crate::cache::{AttentionMask, Cache, LayerCache};
use crate::config::{Config, LayerType};
use crate::nn::{Activation, Attention, Embedding, GatedMlp, Linear, RmsNorm, Rope};
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

    fn forward(
        &self,
        x: &Array,
        rope: &Rope,
        mask: &AttentionMask,
        cache: &mut LayerCache,
    ) -> Result<Array> {
        let mixed = self
            .self_attn
            .forward(&self.input_layernorm.forward(x)?, rope, mask, cache)?;
        let x = ops::add(x, &mixed)?;
        let out = self
            .mlp
            .forward(&self.post_attention_layernorm.forward(&x)?)?;
        Ok(ops::add(&x, &out)?)
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
        let mut x = self.embed_tokens.forward(ids)?.expand_dims(0)?;
        for (i, (block, kind)) in self.layers.iter().enumerate() {
            x = block.forward(&x, &self.rope, masks.of(*kind), cache.layer_mut(i))?;
        }
        Ok(x)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        let hidden = self.norm.forward(hidden)?;
        match &self.lm_head {
            Some(head) => head.forward(&hidden),
            None => self.embed_tokens.as_head(&hidden),
        }
    }
}
