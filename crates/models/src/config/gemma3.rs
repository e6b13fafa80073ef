//! The keys and defaults of Gemma 3's text configuration (transformers' `Gemma3TextConfig`), which
//! stands at the top level (`gemma3_text`) or under `text_config` (`gemma3`). Published nested
//! configurations leave out everything that equals those defaults.

use serde_json::Map;

use super::fields::Fields;
use super::rope::Sources;
use super::{
    Config, Family, GenerationDefaults, Quantization, RopeParameters, RopeScaling,
    check_activation, layer_types,
};
use crate::Result;

const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// `max_position_embeddings` of the published models, whose linear scaling is already in it.
const PUBLISHED_CONTEXT: usize = 131_072;

/// One function, as transformers calls its implementations.
const GELU_TANH: &[&str] = &[
    "gelu_pytorch_tanh",
    "gelu_new",
    "gelu_fast",
    "gelu_accurate",
];

/// `root` is the top level, `f` the text configuration (which may be the same object).
pub(super) fn parse(root: &Fields<'_>, f: &Fields<'_>, model_type: &str) -> Result<Config> {
    // The older key `hidden_act` is read by no reference.
    check_activation(f, "hidden_activation", GELU_TANH)?;
    if f.flag("use_bidirectional_attention")?.unwrap_or(false) {
        let problem = "true is an encoder's setting; only causal models can generate text";
        return Err(f.problem("use_bidirectional_attention", problem));
    }
    let pattern = match f.size("sliding_window_pattern")? {
        Some(pattern) => pattern,
        None => f.size("_sliding_window_pattern")?.unwrap_or(6),
    };
    let max_position_embeddings = f
        .limit("max_position_embeddings")?
        .unwrap_or(PUBLISHED_CONTEXT);
    let (rope, local_rope) = ropes(f, max_position_embeddings)?;
    let scalar = f.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    let mut warnings = Vec::new();
    let mut either = |key: &str| match f.has(key) {
        true => f.token_ids(key, &mut warnings),
        false => root.token_ids(key, &mut warnings),
    };
    let eos_token_ids = either("eos_token_id");
    let bos_token_id = either("bos_token_id").first().copied();
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
        sliding_window: Some(super::window(f)?),
        context: Some(context(&rope, max_position_embeddings)),
        rope,
        local_rope,
        attention_scale: scalar.powf(-0.5),
        attention_bias: f.flag("attention_bias")?.unwrap_or(false),
        // Of a nested model the top level's counts, in transformers.
        tie_word_embeddings: root.flag("tie_word_embeddings")?,
        final_logit_softcapping: f.positive("final_logit_softcapping")?,
        max_position_embeddings: Some(max_position_embeddings),
        quantization: Quantization::read(root, f)?,
        eos_token_ids,
        bos_token_id,
        generation: GenerationDefaults::default(),
        warnings,
    })
}

/// Linear scaling is already in the published 131,072, and vLLM does not apply it again; what is smaller
/// was not scaled.
fn context(rope: &RopeParameters, max_positions: usize) -> usize {
    let scaled = rope.context(max_positions);
    match rope.scaling {
        RopeScaling::Linear { .. } => scaled.min(PUBLISHED_CONTEXT.max(max_positions)),
        _ => scaled,
    }
}

/// The global and the local rotary embedding. New files nest one object for each kind of layer in
/// `rope_parameters`; old ones have `rope_theta`, `rope_local_base_freq` and a `rope_scaling` that
/// holds for the global layers alone. Where both are, `rope_scaling` changes what the new one says of
/// the global layers.
fn ropes(f: &Fields<'_>, max_positions: usize) -> Result<(RopeParameters, RopeParameters)> {
    let nested = f.object("rope_parameters")?;
    let (full, sliding) = match &nested {
        Some(p) => (p.object("full_attention")?, p.object("sliding_attention")?),
        None => (None, None),
    };
    // `rope_parameters` may also be one flat object; then it is the global one.
    let flat = nested.filter(|_| full.is_none() && sliding.is_none());
    let parameters = full.or(flat);
    let scaling = f.object("rope_scaling")?.filter(|f| !f.is_empty());
    let mut merged = Map::new();
    let scaling = match (scaling, &parameters) {
        (Some(scaling), Some(parameters)) => {
            // The name of its kind has two spellings: that of the other object must not come before it.
            let is_named = scaling.has("rope_type") || scaling.has("type");
            let hidden: &[&str] = if is_named {
                &["rope_type", "type"]
            } else {
                &[]
            };
            Some(scaling.over(parameters, hidden, &mut merged))
        }
        (scaling, _) => scaling,
    };
    let global = Sources {
        scaling,
        parameters,
        theta: f.positive("rope_theta")?,
        default_theta: GLOBAL_THETA,
        original: f.positive("original_max_position_embeddings")?,
        max_positions,
    };
    let local = Sources {
        scaling: None,
        parameters: sliding,
        theta: f.positive("rope_local_base_freq")?,
        default_theta: LOCAL_THETA,
        original: None,
        max_positions,
    };
    Ok((
        RopeParameters::read(&global)?,
        RopeParameters::read(&local)?,
    ))
}
