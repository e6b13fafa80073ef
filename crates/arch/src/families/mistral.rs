//! Mistral 7B and Nemo (arXiv:2310.06825): Llama's blocks without biases, in 7B v0.1 with a sliding window
//! on every layer, or on some (Ministral). Keys and defaults are those of transformers' `MistralConfig`.

use super::Family;
use super::common::{SILU, check_activation, config, eps, kv_heads, tied, window, windows};
use crate::fields::Fields;
use crate::layers::{Biases, Dims};
use crate::{Activation, Config, Result, Rope};

pub(super) const FAMILY: Family = Family {
    name: "Mistral",
    model_types: &["mistral", "ministral"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    check_activation(f, "hidden_act", SILU)?;
    let (hidden, heads) = (
        f.required_size("hidden_size")?,
        f.size("num_attention_heads")?.unwrap_or(32),
    );
    let dims = Dims {
        hidden,
        intermediate: f.required_size("intermediate_size")?,
        vocab: f.size("vocab_size")?.unwrap_or(32_000),
        heads,
        kv_heads: kv_heads(f, heads, 8)?,
        head_dim: f.size("head_dim")?.unwrap_or(hidden / heads),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(131_072);
    let ropes = vec![Rope::flat(f, dims.head_dim, 10_000.0, max_positions)?];

    let window = window(f, 4096)?;
    let windows = windows(f, window, |_| window.is_some())?;
    let layers = dims.layers(&windows, Biases::default(), |at, _| {
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
        "mistral-7b-v0.1",
        r#"{"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "sliding_window": 4096, "max_position_embeddings": 32768}"#,
    ),
    (
        "mistral-7b-v0.3",
        r#"{"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0, "sliding_window": null, "max_position_embeddings": 32768}"#,
    ),
    (
        "mistral-nemo-12b",
        r#"{"model_type": "mistral", "hidden_size": 5120, "num_hidden_layers": 40, "intermediate_size": 14336,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072,
            "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": null,
            "max_position_embeddings": 131072}"#,
    ),
];
