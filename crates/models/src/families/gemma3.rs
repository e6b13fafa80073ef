//! Gemma 3, text (arXiv:2503.19786): norms around attention and MLP, five sliding-window layers to
//! one full layer with rotary bases of their own, GeGLU, embeddings scaled by sqrt(hidden).

use kernels::graph::Activation;
use mlx_core::{Array, ops};

use super::{Decoder, OnPart};
use crate::Result;
use crate::cache::Cache;
use crate::config::Config;
use crate::nn::{Attention, Block, Embedding, Ends, Fused, GatedMlp, Linear, RmsNorm, Rope, Stack};
use crate::weights::{Loader, Parts};

fn load_block(at: &Loader<'_>, config: &Config) -> Result<Block> {
    let norm = |name: &str| RmsNorm::load_centered(&at.pp(name), config.rms_norm_eps);
    Ok(Block {
        attention_norm: norm("input_layernorm")?,
        attention: Attention::load(&at.pp("self_attn"), config, RmsNorm::load_centered)?,
        attended_norm: Some(norm("post_attention_layernorm")?),
        mlp_norm: norm("pre_feedforward_layernorm")?,
        mlp: GatedMlp::load(&at.pp("mlp"), Activation::GeluTanh)?,
        mlp_out_norm: Some(norm("post_feedforward_layernorm")?),
    })
}

pub(super) struct Gemma3 {
    embed_tokens: Embedding,
    /// `sqrt(hidden)`, rounded to the dtype of the activations as the reference does.
    embed_scale: Array,
    layers: Stack,
    norm: RmsNorm,
    /// Absent where the embedding is the head.
    lm_head: Option<Linear>,
    final_logit_softcapping: Option<f64>,
    hidden_size: usize,
    fused: Fused,
}

impl Gemma3 {
    pub(super) fn load(
        config: &Config,
        parts: &Parts<'_>,
        on_part: &mut OnPart<'_>,
    ) -> Result<Self> {
        let root = &parts.root;
        let embed_tokens = Embedding::load(&parts.embedding)?;
        on_part(&embed_tokens.arrays())?;
        let mut layers = Vec::with_capacity(config.num_layers());
        for (i, kind) in config.layer_types.iter().enumerate() {
            let block = load_block(&root.pp("layers").pp(i), config)?;
            on_part(&block.arrays())?;
            layers.push((block, *kind));
        }
        let norm = RmsNorm::load_centered(&root.pp("norm"), config.rms_norm_eps)?;
        let lm_head = parts.head.as_ref();
        let lm_head = lm_head.map(|at| Linear::load(at, false)).transpose()?;
        let rope = Rope::new(&config.rope, config.head_dim)?;
        let local_rope = Rope::new(&config.local_rope, config.head_dim)?;
        let layers = Stack::new(layers, rope, Some(local_rope));
        let embed_scale = Array::scalar_of((config.hidden_size as f64).sqrt(), root.dtype())?;
        on_part(&lm_head.iter().flat_map(Linear::arrays).collect::<Vec<_>>())?;
        on_part(&[norm.arrays(), layers.rope_arrays(), vec![&embed_scale]].concat())?;
        let final_logit_softcapping = config.final_logit_softcapping;
        Ok(Self {
            embed_tokens,
            embed_scale,
            layers,
            norm,
            lm_head,
            final_logit_softcapping,
            hidden_size: config.hidden_size,
            fused: Fused::default(),
        })
    }
}

impl Decoder for Gemma3 {
    fn hidden_states(&self, ids: &Array, cache: &mut Cache, rows: i32) -> Result<Array> {
        let x = ops::mul(&self.embed_tokens.forward(ids)?, &self.embed_scale)?;
        self.norm.forward(&self.layers.forward(&x, cache, rows)?)
    }

    fn next_logits(&self, id: &Array, cache: &mut Cache) -> Result<Option<Array>> {
        let ends = Ends {
            embedding: &self.embed_tokens,
            embed_scale: (self.hidden_size as f64).sqrt(),
            norm: &self.norm,
            lm_head: self.lm_head.as_ref(),
            softcap: self.final_logit_softcapping,
        };
        self.fused.logits(&self.layers, &ends, id, cache)
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
