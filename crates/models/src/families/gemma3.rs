//! Gemma 3, text (arXiv:2503.19786): norms around attention and MLP, five sliding-window layers to
//! one full layer with rotary bases of their own, GeGLU, embeddings scaled by sqrt(hidden).

use kernels::graph::{self, Activation};
use mlx_core::{Array, ops};

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
    pre_feedforward_layernorm: RmsNorm,
    mlp: GatedMlp,
    post_feedforward_layernorm: RmsNorm,
}

impl Block {
    fn load(at: &Loader<'_>, config: &Config) -> Result<Self> {
        let norm = |name: &str| RmsNorm::load_centered(&at.pp(name), config.rms_norm_eps);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(&at.pp("self_attn"), config, RmsNorm::load_centered)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            pre_feedforward_layernorm: norm("pre_feedforward_layernorm")?,
            mlp: GatedMlp::load(&at.pp("mlp"), Activation::GeluTanh)?,
            post_feedforward_layernorm: norm("post_feedforward_layernorm")?,
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
        let before = self.post_attention_layernorm.as_norm();
        let after = self.pre_feedforward_layernorm.as_norm();
        let (x, h) = graph::add_rms_norm(&x, &mixed, Some(before), after)?;
        let out = self.mlp.forward(&h)?;
        let before = self.post_feedforward_layernorm.as_norm();
        Ok(graph::add_rms_norm(&x, &out, Some(before), next.as_norm())?)
    }

    fn arrays(&self) -> Vec<&Array> {
        let norms = [
            &self.input_layernorm,
            &self.post_attention_layernorm,
            &self.pre_feedforward_layernorm,
            &self.post_feedforward_layernorm,
        ];
        let mut arrays: Vec<&Array> = norms.into_iter().flat_map(RmsNorm::arrays).collect();
        arrays.extend(self.self_attn.arrays());
        arrays.extend(self.mlp.arrays());
        arrays
    }
}

pub(super) struct Gemma3 {
    embed_tokens: Embedding,
    /// `sqrt(hidden)`, rounded to the dtype of the activations as the reference does.
    embed_scale: Array,
    layers: Vec<(Block, LayerType)>,
    norm: RmsNorm,
    /// Absent where the embedding is the head.
    lm_head: Option<Linear>,
    rope: Rope,
    local_rope: Rope,
    final_logit_softcapping: Option<f64>,
}

impl Gemma3 {
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
        let norm = RmsNorm::load_centered(&root.pp("norm"), config.rms_norm_eps)?;
        let lm_head = head.map(|at| Linear::load(at, false)).transpose()?;
        let rope = Rope::new(&config.rope, config.head_dim)?;
        let local_rope = Rope::new(&config.local_rope, config.head_dim)?;
        let embed_scale = Array::scalar_of((config.hidden_size as f64).sqrt(), root.dtype())?;
        on_part(&lm_head.iter().flat_map(Linear::arrays).collect::<Vec<_>>())?;
        on_part(
            &[
                norm.arrays(),
                rope.arrays(),
                local_rope.arrays(),
                vec![&embed_scale],
            ]
            .concat(),
        )?;
        let final_logit_softcapping = config.final_logit_softcapping;
        Ok(Self {
            embed_tokens,
            embed_scale,
            layers,
            norm,
            lm_head,
            rope,
            local_rope,
            final_logit_softcapping,
        })
    }
}

impl Decoder for Gemma3 {
    fn hidden_states(&self, ids: &Array, cache: &mut Cache) -> Result<Array> {
        let masks = cache.masks(ids.dim(0))?;
        let embedded = self.embed_tokens.forward(ids)?.expand_dims(0)?;
        let x = ops::mul(&embedded, &self.embed_scale)?;
        let first = self
            .layers
            .first()
            .map_or(&self.norm, |(block, _)| &block.input_layernorm);
        let mut state = (x.clone(), first.forward(&x)?);
        for (i, (block, kind)) in self.layers.iter().enumerate() {
            let rope = match kind {
                LayerType::Full => &self.rope,
                LayerType::Sliding => &self.local_rope,
            };
            let next = self
                .layers
                .get(i + 1)
                .map_or(&self.norm, |(b, _)| &b.input_layernorm);
            state = block.forward(state, rope, masks.of(*kind), cache.layer_mut(i), next)?;
        }
        Ok(state.1)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        let logits = match &self.lm_head {
            Some(head) => head.forward(hidden)?,
            None => self.embed_tokens.as_head(hidden)?,
        };
        let Some(cap) = self.final_logit_softcapping else {
            return Ok(logits);
        };
        let cap = Array::scalar_of(cap, logits.dtype())?;
        Ok(ops::mul(&ops::tanh(&ops::div(&logits, &cap)?)?, &cap)?)
    }
}
