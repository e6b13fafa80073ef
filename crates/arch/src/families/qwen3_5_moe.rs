//! Qwen3.5 as a mixture: a mixture of experts in each layer, one of them every token's. Keys and defaults are those
//! of transformers' `Qwen3_5MoeTextConfig`, under `text_config` (`qwen3_5_moe`) or at the top level
//! (`qwen3_5_moe_text`).

use super::Family;
use super::common::config;
use super::hybrid::{Hybrid, Inputs, text, tied};
use super::mixture::{Defaults, Sparse};
use crate::fields::Fields;
use crate::{Activation, Config, Result};

pub(super) const FAMILY: Family = Family {
    name: "Qwen3.5 MoE",
    model_types: &["qwen3_5_moe", "qwen3_5_moe_text"],
    published: PUBLISHED,
    read,
};

fn read(root: &Fields<'_>, model_type: &str) -> Result<Config> {
    let f = &text(root)?;
    let sparse = Sparse::read(f, &DEFAULTS)?;
    // Of an MLP that no layer has.
    let hybrid = Hybrid::read(f, 1, 2)?;
    let max_positions = hybrid.max_positions;
    let model = hybrid.model(Inputs::Apart, |at| sparse.mlp(at, Activation::Silu));
    Ok(Config {
        tie_word_embeddings: tied(root, f)?,
        ..config(&FAMILY, root, f, model_type, model, max_positions)?
    })
}

const DEFAULTS: Defaults = Defaults {
    count: 256,
    top: 8,
    width: 512,
    shared: Some(512),
    renormalised: true,
    varies: false,
};

const PUBLISHED: &[(&str, &str)] = &[(
    "qwen3.5-35b-a3b",
    r#"{"model_type": "qwen3_5_moe_text", "hidden_size": 2048, "num_hidden_layers": 40, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512, "num_experts": 256, "num_experts_per_tok": 8,
        "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
        "linear_num_value_heads": 32, "vocab_size": 248320, "max_position_embeddings": 262144,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
        "tie_word_embeddings": false}"#,
)];
