//! Qwen2 MoE (arXiv:2407.10671): Qwen2 with a mixture of experts in place of the MLP, in all layers or some,
//! and an expert that every token has. Keys and defaults are those of transformers' `Qwen2MoeConfig`.

use super::Family;
use super::common::{SILU, check_activation, config, eps, kv_heads, qwen_window, tied, windows};
use super::mixture::{Defaults, Sparse};
use crate::fields::Fields;
use crate::layers::{Biases, Dims};
use crate::{Activation, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Qwen2 MoE",
    model_types: &["qwen2_moe"],
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
        intermediate: f.size("intermediate_size")?.unwrap_or(5632),
        vocab: f.required_size("vocab_size")?,
        heads,
        kv_heads: kv_heads(f, heads, 16)?,
        head_dim: f.size("head_dim")?.unwrap_or(hidden / heads),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let biases = Biases {
        qkv: f.flag("qkv_bias")?.unwrap_or(true),
        ..Biases::default()
    };
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(32768);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let layers = dims.layers(&layer_windows(f)?, biases, |at, _| {
        at.pre_norm(at.attention(0), sparse.mlp(at, Activation::Silu))
    });
    let model = dims.model(layers, ropes);
    Ok(Config {
        tie_word_embeddings: tied(f)?,
        ..config(&FAMILY, f, f, model_type, model, max_positions)?
    })
}

/// Where there are windows, they are, unless told otherwise, in every other layer below `max_window_layers`, the
/// first among them.
fn layer_windows(f: &Fields<'_>) -> Result<Vec<Option<usize>>> {
    let window = qwen_window(f)?;
    let end = f.count("max_window_layers")?.unwrap_or(28);
    windows(f, window, |i| window.is_some() && i % 2 == 0 && i < end)
}

const DEFAULTS: Defaults = Defaults {
    count: 60,
    top: 4,
    width: 1408,
    shared: Some(5632),
    renormalised: false,
    varies: true,
};

const PUBLISHED: &[(&str, &str)] = &[
    (
        "qwen1.5-moe-a2.7b",
        r#"{"model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 5632,
            "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
            "num_experts_per_tok": 4, "norm_topk_prob": false, "decoder_sparse_step": 1,
            "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936, "rope_theta": 1000000,
            "max_position_embeddings": 8192, "use_sliding_window": false, "tie_word_embeddings": false}"#,
    ),
    (
        "qwen2-57b-a14b",
        r#"{"model_type": "qwen2_moe", "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944,
            "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480, "num_experts": 64,
            "num_experts_per_tok": 8, "norm_topk_prob": false, "decoder_sparse_step": 1,
            "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 151936, "rope_theta": 1000000,
            "max_position_embeddings": 32768, "use_sliding_window": false, "tie_word_embeddings": false}"#,
    ),
];
