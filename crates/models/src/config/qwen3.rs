//! The keys and defaults of Qwen3's `config.json` (transformers' `Qwen3Config`).

use super::fields::Fields;
use super::rope::Sources;
use super::{
    Config, Family, GenerationDefaults, Quantization, RopeParameters, check_activation, layer_types,
};
use crate::Result;

pub(super) fn parse(f: &Fields<'_>) -> Result<Config> {
    check_activation(f, "hidden_act", &["silu", "swish"])?;
    let num_attention_heads = f.required_size("num_attention_heads")?;
    let head_dim = f.size("head_dim")?.unwrap_or(128);
    let use_sliding_window = f.flag("use_sliding_window")?.unwrap_or(false);
    let sliding_window = match use_sliding_window {
        true => Some(super::window(f)?),
        false => None,
    };
    let max_window_layers = f.count("max_window_layers")?.unwrap_or(28);
    let max_position_embeddings = f.limit("max_position_embeddings")?.unwrap_or(32768);
    let rope = RopeParameters::read(&Sources {
        scaling: f.object("rope_scaling")?,
        parameters: f.object("rope_parameters")?,
        theta: f.positive("rope_theta")?,
        default_theta: 10_000.0,
        original: f.positive("original_max_position_embeddings")?,
        max_positions: max_position_embeddings,
    })?;
    let mut warnings = Vec::new();

    Ok(Config {
        path: f.file().to_owned(),
        family: Family::Qwen3,
        model_type: "qwen3".into(),
        hidden_size: f.required_size("hidden_size")?,
        intermediate_size: f.required_size("intermediate_size")?,
        num_attention_heads,
        num_key_value_heads: f
            .size("num_key_value_heads")?
            .unwrap_or(num_attention_heads),
        head_dim,
        vocab_size: f.required_size("vocab_size")?,
        rms_norm_eps: f.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        layer_types: layer_types(f, |i| use_sliding_window && i >= max_window_layers)?,
        sliding_window,
        context: Some(rope.context(max_position_embeddings)),
        local_rope: rope.clone(),
        rope,
        attention_scale: (head_dim as f64).powf(-0.5),
        attention_bias: f.flag("attention_bias")?.unwrap_or(false),
        tie_word_embeddings: Some(f.flag("tie_word_embeddings")?.unwrap_or(false)),
        final_logit_softcapping: None,
        max_position_embeddings: Some(max_position_embeddings),
        quantization: Quantization::read(f, f)?,
        eos_token_ids: f.token_ids("eos_token_id", &mut warnings),
        bos_token_id: f.token_ids("bos_token_id", &mut warnings).first().copied(),
        generation: GenerationDefaults::default(),
        warnings,
    })
}
