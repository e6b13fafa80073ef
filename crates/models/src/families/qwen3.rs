//! Qwen3, dense (arXiv:2505.09388): pre-norm blocks, normalized queries and keys, SwiGLU.

use kernels::graph::Activation;
use mlx_core::Array;

use super::{Decoder, OnPart};
use crate::Result;
use crate::cache::Cache;
use crate::config::Config;
use crate::nn::{Attention, Block, Embedding, Ends, Fused, GatedMlp, Linear, RmsNorm, Rope, Stack};
use crate::weights::{Loader, Parts};

fn load_block(at: &Loader<'_>, config: &Config) -> Result<Block> {
    let norm = |name: &str| RmsNorm::load(&at.pp(name), config.rms_norm_eps);
    Ok(Block {
        attention_norm: norm("input_layernorm")?,
        attention: Attention::load(&at.pp("self_attn"), config, RmsNorm::load)?,
        attended_norm: None,
        mlp_norm: norm("post_attention_layernorm")?,
        mlp: GatedMlp::load(&at.pp("mlp"), Activation::Silu)?,
        mlp_out_norm: None,
    })
}

pub(super) struct Qwen3 {
    embed_tokens: Embedding,
    layers: Stack,
    norm: RmsNorm,
    /// Absent where the embedding is the head.
    lm_head: Option<Linear>,
    fused: Fused,
}

impl Qwen3 {
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
        let norm = RmsNorm::load(&root.pp("norm"), config.rms_norm_eps)?;
        let lm_head = parts.head.as_ref();
        let lm_head = lm_head.map(|at| Linear::load(at, false)).transpose()?;
        let rope = Rope::new(&config.rope, config.head_dim)?;
        let layers = Stack::new(layers, rope, None);
        on_part(&lm_head.iter().flat_map(Linear::arrays).collect::<Vec<_>>())?;
        on_part(&[norm.arrays(), layers.rope_arrays()].concat())?;
        Ok(Self {
            embed_tokens,
            layers,
            norm,
            lm_head,
            fused: Fused::default(),
        })
    }
}

impl Decoder for Qwen3 {
    fn hidden_states(&self, ids: &Array, cache: &mut Cache, rows: i32) -> Result<Array> {
        let x = self.embed_tokens.forward(ids)?;
        self.norm.forward(&self.layers.forward(&x, cache, rows)?)
    }

    fn next_logits(&self, id: &Array, cache: &mut Cache) -> Result<Option<Array>> {
        let ends = Ends {
            embedding: &self.embed_tokens,
            embed_scale: 1.0,
            norm: &self.norm,
            lm_head: self.lm_head.as_ref(),
            softcap: None,
        };
        self.fused.logits(&self.layers, &ends, id, cache)
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => self.embed_tokens.as_head(hidden),
        }
    }
}
