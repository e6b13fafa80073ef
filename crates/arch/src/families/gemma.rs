//! Gemma (arXiv:2403.08295): pre-norm blocks whose norms are stored less one, GeGLU, embeddings scaled by
//! sqrt(hidden). Keys and defaults are those of transformers' `GemmaConfig`.

use super::Family;
use super::common::{
    GELU_TANH, attention_biases, check_activation, check_causal, config, eps, layer_count,
};
use crate::fields::Fields;
use crate::layers::Dims;
use crate::{Activation, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Gemma",
    model_types: &["gemma"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    // Released files say `gelu` and mean the approximation by tanh, as transformers takes it; it does not
    // read their `hidden_activation`.
    if f.text("hidden_act")? != Some("gelu") {
        check_activation(f, "hidden_act", GELU_TANH)?;
    }
    check_causal(f)?;
    let dims = Dims {
        hidden: f.required_size("hidden_size")?,
        intermediate: f.required_size("intermediate_size")?,
        vocab: f.size("vocab_size")?.unwrap_or(256_000),
        heads: f.size("num_attention_heads")?.unwrap_or(16),
        kv_heads: f.size("num_key_value_heads")?.unwrap_or(16),
        head_dim: f.size("head_dim")?.unwrap_or(256),
        eps: eps(f, 1e-6)?,
        centered: true,
    };
    let biases = attention_biases(f)?;
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(8192);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let windows = vec![None; layer_count(f)?];
    let layers = dims.layers(&windows, biases, |at, _| {
        at.pre_norm(at.attention(0), at.mlp(Activation::GeluTanh))
    });
    let mut model = dims.model(layers, ropes);
    model.embedding.scale = dims.root_of_hidden();
    Ok(Config {
        tie_word_embeddings: f.flag("tie_word_embeddings")?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "gemma-2b",
        r#"{"model_type": "gemma", "hidden_size": 2048, "num_hidden_layers": 18, "intermediate_size": 16384,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000,
            "max_position_embeddings": 8192}"#,
    ),
    (
        "gemma-7b",
        r#"{"model_type": "gemma", "hidden_size": 3072, "num_hidden_layers": 28, "intermediate_size": 24576,
            "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "vocab_size": 256000,
            "max_position_embeddings": 8192}"#,
    ),
];
