//! Gemma 2 (arXiv:2408.00118): norms around attention and MLP, layers with a sliding window and without by
//! turns, scores and logits squashed, GeGLU, embeddings scaled by sqrt(hidden). Keys and defaults are those
//! of transformers' `Gemma2Config`.

use super::Family;
use super::common::{
    GELU_TANH, attention_biases, check_activation, check_causal, config, eps, window, windows,
};
use crate::fields::Fields;
use crate::layers::{At, Dims};
use crate::{Activation, Attention, Config, Layer, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Gemma 2",
    model_types: &["gemma2"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    read_as(&FAMILY, f, model_type, |at, attention| {
        at.sandwiched(attention, Activation::GeluTanh)
    })
}

/// A configuration of `family`, which differs in what `layer` puts around attention and MLP.
pub(super) fn read_as(
    family: &'static Family,
    f: &Fields<'_>,
    model_type: &str,
    layer: impl Fn(&At<'_>, Attention<String>) -> Layer<String>,
) -> Result<Config> {
    check_activation(f, "hidden_activation", GELU_TANH)?;
    check_causal(f)?;
    let dims = Dims {
        hidden: f.required_size("hidden_size")?,
        intermediate: f.required_size("intermediate_size")?,
        vocab: f.size("vocab_size")?.unwrap_or(256_000),
        heads: f.size("num_attention_heads")?.unwrap_or(8),
        kv_heads: f.size("num_key_value_heads")?.unwrap_or(4),
        head_dim: f.size("head_dim")?.unwrap_or(256),
        eps: eps(f, 1e-6)?,
        centered: true,
    };
    let biases = attention_biases(f)?;
    let scalar = f.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    let cap = |key: &str, default: f64| match f.is_null(key) {
        true => Ok(None),
        false => Ok::<_, crate::Error>(Some(f.positive(key)?.unwrap_or(default))),
    };
    let score_cap = cap("attn_logit_softcapping", 50.0)?;
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(8192);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let windows = windows(f, window(f, 4096)?, |i| i % 2 == 0)?;
    let layers = dims.layers(&windows, biases, |at, _| {
        let attention = Attention {
            scale: scalar.powf(-0.5),
            softcap: score_cap,
            ..at.attention(0)
        };
        layer(at, attention)
    });
    let mut model = dims.model(layers, ropes);
    model.embedding.scale = dims.root_of_hidden();
    model.softcap = cap("final_logit_softcapping", 30.0)?;
    Ok(Config {
        tie_word_embeddings: f.flag("tie_word_embeddings")?,
        ..config(family, f, f, model_type, model, max_positions)?
    })
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "gemma2-2b",
        r#"{"model_type": "gemma2", "hidden_size": 2304, "num_hidden_layers": 26, "intermediate_size": 9216,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
            "sliding_window": 4096, "query_pre_attn_scalar": 256, "max_position_embeddings": 8192}"#,
    ),
    (
        "gemma2-9b",
        r#"{"model_type": "gemma2", "hidden_size": 3584, "num_hidden_layers": 42, "intermediate_size": 14336,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
            "sliding_window": 4096, "query_pre_attn_scalar": 256, "max_position_embeddings": 8192}"#,
    ),
    (
        "gemma2-27b",
        r#"{"model_type": "gemma2", "hidden_size": 4608, "num_hidden_layers": 46, "intermediate_size": 36864,
            "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 256000,
            "sliding_window": 4096, "query_pre_attn_scalar": 144, "max_position_embeddings": 8192}"#,
    ),
];
