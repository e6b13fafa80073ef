//! Qwen3, dense (arXiv:2505.09388): pre-norm blocks, normalized queries and keys, SwiGLU. Keys and defaults
//! are those of transformers' `Qwen3Config`.

use super::Family;
use super::common::{
    SILU, attention_biases, check_activation, config, eps, kv_heads, qwen_windows, tied,
};
use crate::fields::Fields;
use crate::layers::Dims;
use crate::{Activation, Attention, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Qwen3",
    model_types: &["qwen3"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    check_activation(f, "hidden_act", SILU)?;
    let heads = f.required_size("num_attention_heads")?;
    let dims = Dims {
        hidden: f.required_size("hidden_size")?,
        intermediate: f.required_size("intermediate_size")?,
        vocab: f.required_size("vocab_size")?,
        heads,
        kv_heads: kv_heads(f, heads, 32)?,
        head_dim: f.size("head_dim")?.unwrap_or(128),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let biases = attention_biases(f)?;
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(32768);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let layers = dims.layers(&qwen_windows(f)?, biases, |at, _| {
        let attention = Attention {
            q_norm: Some(at.head_norm("q_norm")),
            k_norm: Some(at.head_norm("k_norm")),
            ..at.attention(0)
        };
        at.pre_norm(attention, at.mlp(Activation::Silu))
    });
    let model = dims.model(layers, ropes);
    Ok(Config {
        tie_word_embeddings: tied(f)?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "qwen3-0.6b",
        r#"{"model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 28, "intermediate_size": 3072,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rope_theta": 1000000, "max_position_embeddings": 40960, "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3-1.7b",
        r#"{"model_type": "qwen3", "hidden_size": 2048, "num_hidden_layers": 28, "intermediate_size": 6144,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rope_theta": 1000000, "max_position_embeddings": 40960, "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3-4b",
        r#"{"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rope_theta": 1000000, "max_position_embeddings": 40960, "tie_word_embeddings": true}"#,
    ),
    (
        "qwen3-8b",
        r#"{"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 12288,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "rope_theta": 1000000, "max_position_embeddings": 40960, "tie_word_embeddings": false}"#,
    ),
];
