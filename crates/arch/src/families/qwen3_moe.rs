//! Qwen3 MoE (arXiv:2505.09388): Qwen3 with a mixture of experts in place of the MLP, in all layers or some.
//! Keys and defaults are those of transformers' `Qwen3MoeConfig`.

use super::Family;
use super::common::{
    SILU, attention_biases, check_activation, config, eps, kv_heads, layer_count, qwen_window, tied,
};
use super::mixture::{Defaults, Sparse};
use crate::fields::Fields;
use crate::layers::Dims;
use crate::{Activation, Attention, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Qwen3 MoE",
    model_types: &["qwen3_moe"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    check_activation(f, "hidden_act", SILU)?;
    let (hidden, heads) = (
        f.required_size("hidden_size")?,
        f.required_size("num_attention_heads")?,
    );
    let sparse = Sparse::read(f, &DEFAULTS)?;
    let dims = Dims {
        hidden,
        intermediate: f.size("intermediate_size")?.unwrap_or(6144),
        vocab: f.required_size("vocab_size")?,
        heads,
        kv_heads: kv_heads(f, heads, 4)?,
        head_dim: f.size("head_dim")?.unwrap_or(hidden / heads),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let biases = attention_biases(f)?;
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(32768);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let layers = dims.layers(&windows(f)?, biases, |at, _| {
        let attention = Attention {
            q_norm: Some(at.head_norm("q_norm")),
            k_norm: Some(at.head_norm("k_norm")),
            ..at.attention(0)
        };
        at.pre_norm(attention, sparse.mlp(at, Activation::Silu))
    });
    let model = dims.model(layers, ropes);
    Ok(Config {
        tie_word_embeddings: tied(f)?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

/// All layers have the window, or none.
fn windows(f: &Fields<'_>) -> Result<Vec<Option<usize>>> {
    Ok(vec![qwen_window(f)?; layer_count(f)?])
}

const DEFAULTS: Defaults = Defaults {
    count: 128,
    top: 8,
    width: 768,
    shared: None,
    renormalised: false,
    varies: true,
};

const PUBLISHED: &[(&str, &str)] = &[
    (
        "qwen3-30b-a3b",
        r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "intermediate_size": 6144,
            "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
            "decoder_sparse_step": 1, "mlp_only_layers": [], "num_attention_heads": 32, "num_key_value_heads": 4,
            "head_dim": 128, "vocab_size": 151936, "rope_theta": 1000000, "max_position_embeddings": 40960,
            "tie_word_embeddings": false}"#,
    ),
    (
        "qwen3-235b-a22b",
        r#"{"model_type": "qwen3_moe", "hidden_size": 4096, "num_hidden_layers": 94, "intermediate_size": 12288,
            "moe_intermediate_size": 1536, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
            "decoder_sparse_step": 1, "mlp_only_layers": [], "num_attention_heads": 64, "num_key_value_heads": 4,
            "head_dim": 128, "vocab_size": 151936, "rope_theta": 1000000, "max_position_embeddings": 40960,
            "tie_word_embeddings": false}"#,
    ),
];
