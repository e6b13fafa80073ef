//! Qwen3.5, dense: gated delta nets, and gated attention in every fourth layer. Keys and defaults are those of
//! transformers' `Qwen3_5TextConfig`, which stands under `text_config` (`qwen3_5`, whose images are not read) or at
//! the top level (`qwen3_5_text`).

use super::Family;
use super::common::config;
use super::hybrid::{Hybrid, Inputs, text, tied};
use crate::fields::Fields;
use crate::{Activation, Config, Result};

pub(super) const FAMILY: Family = Family {
    name: "Qwen3.5",
    model_types: &["qwen3_5", "qwen3_5_text"],
    published: PUBLISHED,
    read,
};

fn read(root: &Fields<'_>, model_type: &str) -> Result<Config> {
    let f = &text(root)?;
    let hybrid = Hybrid::read(f, 12288, 4)?;
    let max_positions = hybrid.max_positions;
    let model = hybrid.model(Inputs::Apart, |at| at.mlp(Activation::Silu));
    Ok(Config {
        tie_word_embeddings: tied(root, f)?,
        ..config(&FAMILY, root, f, model_type, model, max_positions)?
    })
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "qwen3.5-0.8b",
        r#"{"model_type": "qwen3_5_text", "hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 3584,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
            "linear_num_value_heads": 16, "vocab_size": 248320, "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
            "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3.5-2b",
        r#"{"model_type": "qwen3_5_text", "hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 6144,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
            "linear_num_value_heads": 16, "vocab_size": 248320, "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
            "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3.5-4b",
        r#"{"model_type": "qwen3_5_text", "hidden_size": 2560, "num_hidden_layers": 32, "intermediate_size": 9216,
            "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "linear_num_key_heads": 16,
            "linear_num_value_heads": 32, "vocab_size": 248320, "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
            "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3.5-9b",
        r#"{"model_type": "qwen3_5_text", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 12288,
            "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "linear_num_key_heads": 16,
            "linear_num_value_heads": 32, "vocab_size": 248320, "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
            "tie_word_embeddings": false}"#,
    ),
    (
        "qwen3.5-27b",
        r#"{"model_type": "qwen3_5_text", "hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 17408,
            "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256, "linear_num_key_heads": 16,
            "linear_num_value_heads": 48, "vocab_size": 248320, "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25},
            "tie_word_embeddings": false}"#,
    ),
];
