//! VaultGemma: Gemma 2 without the norms behind attention and MLP, trained with differential privacy. Keys and
//! defaults are those of transformers' `VaultGemmaConfig`.

use super::{Family, gemma2};
use crate::fields::Fields;
use crate::{Activation, Config, Layer, Mixer, Result, Sub};

pub(super) const FAMILY: Family = Family {
    name: "VaultGemma",
    model_types: &["vaultgemma"],
    published: PUBLISHED,
    read,
};

fn read(f: &Fields<'_>, model_type: &str) -> Result<Config> {
    gemma2::read_as(&FAMILY, f, model_type, |at, attention| Layer {
        altup: None,
        mixer: Sub {
            before: at.norm("input_layernorm"),
            part: Mixer::Attention(attention),
            after: None,
        },
        mlp: Sub {
            before: at.norm("pre_feedforward_layernorm"),
            part: at.mlp(Activation::GeluTanh),
            after: None,
        },
        per_layer: None,
        scale: None,
    })
}

const PUBLISHED: &[(&str, &str)] = &[(
    "vaultgemma-1b",
    r#"{"model_type": "vaultgemma", "hidden_size": 1152, "num_hidden_layers": 26, "intermediate_size": 6912,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
        "sliding_window": 512, "query_pre_attn_scalar": 256, "max_position_embeddings": 1024}"#,
)];
