//! Gemma 3, text (arXiv:2503.19786): norms around attention and MLP, five sliding-window layers to one full
//! layer with rotary bases of their own, GeGLU, embeddings scaled by sqrt(hidden).
//! EmbeddingGemma is one whose positions see both sides.
//!
//! Keys and defaults are those of transformers' `Gemma3TextConfig`, which stands at the top level
//! (`gemma3_text`) or under `text_config` (`gemma3`). Published nested configurations leave out everything
//! that equals those defaults.

use serde_json::Map;

use super::Family;
use super::common::{
    GELU_TANH, attention_biases, check_activation, check_causal, config, eps, window, windows,
};
use crate::fields::Fields;
use crate::layers::Dims;
use crate::rope::Sources;
use crate::{Activation, Attention, Config, Result, Rope, RopeScaling};

pub(super) const FAMILY: Family = Family {
    name: "Gemma 3",
    model_types: &["gemma3_text", "gemma3"],
    published: PUBLISHED,
    read,
};

const GLOBAL_THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

/// `max_position_embeddings` of the published models, whose linear scaling is already in it.
const PUBLISHED_CONTEXT: usize = 131_072;

/// The rotations of full and of sliding layers.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

fn read(root: &Fields<'_>, model_type: &str) -> Result<Config> {
    let nested = match model_type {
        "gemma3" => root.object("text_config")?,
        _ => None,
    };
    let f = nested.as_ref().unwrap_or(root);
    // The older key `hidden_act` is read by no reference.
    check_activation(f, "hidden_activation", GELU_TANH)?;
    let bidirectional = match nested {
        // transformers' masks of a nested model stay causal, whatever this says.
        Some(_) => {
            check_causal(f)?;
            false
        }
        None => f.flag("use_bidirectional_attention")?.unwrap_or(false),
    };
    let window = window(f, 4096)?.map(|window| match bidirectional {
        // Half of it on either side, and the position itself: transformers' bound is exclusive.
        true => window / 2 + 1,
        false => window,
    });
    let pattern = f.size("sliding_window_pattern")?.unwrap_or(6);
    let dims = Dims {
        hidden: f.required_size("hidden_size")?,
        intermediate: f.required_size("intermediate_size")?,
        vocab: match f.size("vocab_size")? {
            Some(size) => size,
            None => root.size("vocab_size")?.unwrap_or(262_208),
        },
        heads: f.size("num_attention_heads")?.unwrap_or(8),
        kv_heads: f.size("num_key_value_heads")?.unwrap_or(4),
        head_dim: f.size("head_dim")?.unwrap_or(256),
        eps: eps(f, 1e-6)?,
        centered: true,
    };
    let windows = windows(f, window, |i| (i + 1) % pattern != 0)?;
    let biases = attention_biases(f)?;
    let scalar = f.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    let max_positions = f
        .limit("max_position_embeddings")?
        .unwrap_or(PUBLISHED_CONTEXT);
    let ropes = ropes(f, dims.head_dim, max_positions)?;

    let layers = dims.layers(&windows, biases, |at, window| {
        let attention = Attention {
            q_norm: Some(at.head_norm("q_norm")),
            k_norm: Some(at.head_norm("k_norm")),
            scale: scalar.powf(-0.5),
            ..at.attention(if window.is_some() { LOCAL } else { GLOBAL })
        };
        at.sandwiched(attention, Activation::GeluTanh)
    });
    let context = context(&ropes[GLOBAL], max_positions);
    let mut model = dims.model(layers, ropes.into());
    model.embedding.scale = dims.root_of_hidden();
    model.softcap = match nested {
        // transformers squashes no logits of a nested model, whatever this says.
        Some(_) => None,
        None => f.positive("final_logit_softcapping")?,
    };
    model.bidirectional = bidirectional;
    Ok(Config {
        // Of a nested model the top level's counts, in transformers.
        tie_word_embeddings: root.flag("tie_word_embeddings")?,
        context: Some(context),
        ..config(&FAMILY, root, f, model_type, model, max_positions)?
    })
}

/// Linear scaling is already in the published 131,072, and vLLM does not apply it again; what is smaller
/// was not scaled.
fn context(rope: &Rope, max_positions: usize) -> usize {
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
pub(super) fn ropes(f: &Fields<'_>, head_dim: usize, max_positions: usize) -> Result<[Rope; 2]> {
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
        head_dim,
        partial: false,
        scaling,
        parameters,
        theta: f.positive("rope_theta")?,
        default_theta: GLOBAL_THETA,
        original: f.positive("original_max_position_embeddings")?,
        max_positions,
    };
    let local = Sources {
        head_dim,
        partial: false,
        scaling: None,
        parameters: sliding,
        theta: f.positive("rope_local_base_freq")?,
        default_theta: LOCAL_THETA,
        original: None,
        max_positions,
    };
    Ok([Rope::read(&global)?, Rope::read(&local)?])
}

const PUBLISHED: &[(&str, &str)] = &[
    (
        "gemma3-270m",
        r#"{"model_type": "gemma3_text", "hidden_size": 640, "num_hidden_layers": 18, "intermediate_size": 2048,
            "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
            "sliding_window": 512, "max_position_embeddings": 32768}"#,
    ),
    (
        "gemma3-1b",
        r#"{"model_type": "gemma3_text", "hidden_size": 1152, "num_hidden_layers": 26, "intermediate_size": 6912,
            "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
            "sliding_window": 512, "max_position_embeddings": 32768}"#,
    ),
    (
        "gemma3-4b",
        r#"{"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "intermediate_size": 10240,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
            "sliding_window": 1024, "max_position_embeddings": 131072,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}}"#,
    ),
    (
        "embeddinggemma-300m",
        r#"{"model_type": "gemma3_text", "hidden_size": 768, "num_hidden_layers": 24, "intermediate_size": 1152,
            "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
            "sliding_window": 512, "use_bidirectional_attention": true, "max_position_embeddings": 2048}"#,
    ),
];
