//! Qwen2 and Qwen2.5 (arXiv:2407.10671): pre-norm blocks, biases on queries, keys and values, SwiGLU. Keys
//! and defaults are those of transformers' `Qwen2Config`.

use super::Family;
use super::common::{SILU, check_activation, config, eps, kv_heads, qwen_windows, tied};
use crate::fields::Fields;
use crate::layers::{Biases, Dims};
use crate::{Activation, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Qwen2",
    model_types: &["qwen2"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    check_activation(f, "hidden_act", SILU)?;
    let (hidden, heads) = (
        f.required_size("hidden_size")?,
        f.required_size("num_attention_heads")?,
    );
    let dims = Dims {
        hidden,
        intermediate: f.required_size("intermediate_size")?,
        vocab: f.required_size("vocab_size")?,
        heads,
        kv_heads: kv_heads(f, heads, 32)?,
        head_dim: f.size("head_dim")?.unwrap_or(hidden / heads),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let biases = Biases {
        qkv: true,
        ..Biases::default()
    };
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(32768);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let layers = dims.layers(&qwen_windows(f)?, biases, |at, _| {
        at.pre_norm(at.attention(0), at.mlp(Activation::Silu))
    });
    let model = dims.model(layers, ropes);
    Ok(Config {
        tie_word_embeddings: tied(f)?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "qwen2.5-0.5b",
        r#"{"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
            "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
            "rope_theta": 1000000, "max_position_embeddings": 32768, "tie_word_embeddings": true}"#,
    ),
    (
        "qwen2.5-1.5b",
        r#"{"model_type": "qwen2", "hidden_size": 1536, "num_hidden_layers": 28, "intermediate_size": 8960,
            "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936,
            "rope_theta": 1000000, "max_position_embeddings": 32768, "tie_word_embeddings": true}"#,
    ),
    (
        "qwen2.5-7b",
        r#"{"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944,
            "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
            "rope_theta": 1000000, "max_position_embeddings": 32768, "tie_word_embeddings": false}"#,
    ),
];
