//! Qwen3-Next: gated delta nets, gated attention in every fourth layer, and a mixture of experts in each. Keys and
//! defaults are those of transformers' `Qwen3NextConfig`.

use super::Family;
use super::common::{config, tied};
use super::hybrid::{Hybrid, Inputs};
use super::mixture::{Defaults, Sparse};
use crate::fields::Fields;
use crate::{Activation, Config, Result};

pub(super) const FAMILY: Family = Family {
    name: "Qwen3-Next",
    model_types: &["qwen3_next"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    let sparse = Sparse::read(f, &DEFAULTS)?;
    let hybrid = Hybrid::read(f, 5632, 2)?;
    let max_positions = hybrid.max_positions;
    let model = hybrid.model(Inputs::ByKeyHead, |at| sparse.mlp(at, Activation::Silu));
    Ok(Config {
        tie_word_embeddings: tied(f)?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

const DEFAULTS: Defaults = Defaults {
    count: 512,
    top: 10,
    width: 512,
    shared: Some(512),
    renormalised: true,
    varies: true,
};

const PUBLISHED: &[(&str, &str)] = &[(
    "qwen3-next-80b-a3b",
    r#"{"model_type": "qwen3_next", "hidden_size": 2048, "num_hidden_layers": 48, "intermediate_size": 5120,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "num_experts": 512,
        "num_experts_per_tok": 10, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
        "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "partial_rotary_factor": 0.25,
        "vocab_size": 151936, "rope_theta": 10000000, "max_position_embeddings": 262144,
        "tie_word_embeddings": false}"#,
)];
