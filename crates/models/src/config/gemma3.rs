//! The keys and defaults of Gemma 3's text configuration (transformers' `Gemma3TextConfig`), which
//! stands at the top level (`gemma3_text`) or under `text_config` (`gemma3`). Published nested
//! configurations leave out everything that equals those defaults.

use super::fields::Fields;
use super::{
    Config, Family, GenerationDefaults, Quantization, RopeParameters, check_activation, layer_types,
};
use crate::Result;

const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// `root` is the top level, `f` the text configuration (which may be the same object).
pub(super) fn parse(root: &Fields<'_>, f: &Fields<'_>, model_type: &str) -> Result<Config> {
    check_activation(f, &["hidden_activation", "hidden_act"], "gelu_pytorch_tanh")?;
    if f.flag("use_bidirectional_attention")?.unwrap_or(false) {
        let problem = "true is an encoder's setting; only causal models can generate text";
        return Err(f.problem("use_bidirectional_attention", problem));
    }
    let pattern = match f.size("sliding_window_pattern")? {
        Some(pattern) => pattern,
        None => f.size("_sliding_window_pattern")?.unwrap_or(6),
    };
    let max_position_embeddings = f.size("max_position_embeddings")?.unwrap_or(131_072);
    let (rope, local_rope) = ropes(f, max_position_embeddings)?;
    let scalar = f.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    let either = |key: &str| -> Result<Vec<u32>> {
        let own = f.token_ids(key)?;
        if own.is_empty() {
            root.token_ids(key)
        } else {
            Ok(own)
        }
    };
    let vocab_size = match f.size("vocab_size")? {
        Some(size) => size,
        None => root.size("vocab_size")?.unwrap_or(262_208),
    };

    Ok(Config {
        path: root.file().to_owned(),
        family: Family::Gemma3,
        model_type: model_type.to_owned(),
        hidden_size: f.required_size("hidden_size")?,
        intermediate_size: f.required_size("intermediate_size")?,
        num_attention_heads: f.size("num_attention_heads")?.unwrap_or(8),
        num_key_value_heads: f.size("num_key_value_heads")?.unwrap_or(4),
        head_dim: f.size("head_dim")?.unwrap_or(256),
        vocab_size,
        rms_norm_eps: f.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        layer_types: layer_types(f, |i| (i + 1) % pattern != 0)?,
        sliding_window: Some(f.size("sliding_window")?.unwrap_or(4096)),
        rope,
        local_rope,
        attention_scale: scalar.powf(-0.5),
        attention_bias: f.flag("attention_bias")?.unwrap_or(false),
        // Of a nested model the top level's counts, in transformers.
        tie_word_embeddings: root.flag("tie_word_embeddings")?,
        final_logit_softcapping: f.positive("final_logit_softcapping")?,
        max_position_embeddings: Some(max_position_embeddings),
        quantization: Quantization::read(root, f)?,
        eos_token_ids: either("eos_token_id")?,
        bos_token_id: either("bos_token_id")?.first().copied(),
        generation: GenerationDefaults::default(),
    })
}

/// The global and the local rotary embedding. New files nest one object for each kind of layer in
/// `rope_parameters`; old ones have `rope_theta`, `rope_local_base_freq` and a `rope_scaling` that
/// holds for the global layers alone.
fn ropes(f: &Fields<'_>, max_positions: usize) -> Result<(RopeParameters, RopeParameters)> {
    let global_theta = f.positive("rope_theta")?.unwrap_or(GLOBAL_THETA);
    let local_theta = f.positive("rope_local_base_freq")?.unwrap_or(LOCAL_THETA);
    let nested = f.object("rope_parameters")?;
    let (full, sliding) = match &nested {
        Some(p) => (p.object("full_attention")?, p.object("sliding_attention")?),
        None => (None, None),
    };
    // `rope_parameters` may also be one flat object; then it is the global one.
    let flat = match &nested {
        Some(p) if full.is_none() && sliding.is_none() => Some(p.clone()),
        _ => f.object("rope_scaling")?,
    };
    let global = full.or(flat);
    Ok((
        RopeParameters::read(global.as_ref(), global_theta, max_positions)?,
        RopeParameters::read(sliding.as_ref(), local_theta, max_positions)?,
    ))
}
