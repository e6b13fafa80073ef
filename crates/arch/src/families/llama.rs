//! Llama 2 and 3 (arXiv:2302.13971, arXiv:2407.21783) and what is published in their form: pre-norm blocks,
//! SwiGLU, no norm of queries and keys. Keys and defaults are those of transformers' `LlamaConfig`.

use super::Family;
use super::common::{SILU, attention_biases, check_activation, config, eps, layer_count, tied};
use crate::fields::Fields;
use crate::layers::{Biases, Dims};
use crate::{Activation, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Llama",
    model_types: &["llama"],
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
        kv_heads: f.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim: f.size("head_dim")?.unwrap_or(hidden / heads),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let attention = attention_biases(f)?;
    let biases = Biases {
        mlp: f.flag("mlp_bias")?.unwrap_or(false),
        ..attention
    };
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(2048);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let windows = vec![None; layer_count(f)?];
    let layers = dims.layers(&windows, biases, |at, _| {
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
        "llama3.2-1b",
        r#"{"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
            "rms_norm_eps": 1e-5, "rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
            "max_position_embeddings": 131072, "tie_word_embeddings": true}"#,
    ),
    (
        "llama3.2-3b",
        r#"{"model_type": "llama", "hidden_size": 3072, "num_hidden_layers": 28, "intermediate_size": 8192,
            "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256,
            "rms_norm_eps": 1e-5, "rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
            "max_position_embeddings": 131072, "tie_word_embeddings": true}"#,
    ),
    (
        "llama3.1-8b",
        r#"{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
            "rms_norm_eps": 1e-5, "rope_theta": 500000, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
            "max_position_embeddings": 131072, "tie_word_embeddings": false}"#,
    ),
];
