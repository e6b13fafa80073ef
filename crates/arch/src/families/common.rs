//! Keys that several families spell alike.

use crate::fields::Fields;
use crate::layers::Biases;
use crate::{Config, Family, GenerationDefaults, Model, Quantization, Result};

/// The names of SiLU.
pub(super) const SILU: &[&str] = &["silu", "swish"];

/// The names of GELU's approximation by tanh, as transformers calls its implementations.
pub(super) const GELU_TANH: &[&str] = &[
    "gelu_pytorch_tanh",
    "gelu_new",
    "gelu_fast",
    "gelu_accurate",
];

/// A configuration of `family` whose model is `model` and was trained on `max_positions` tokens at the most; `f`
/// is the text model's object. Whether the head is tied, and what the files beside it say, is left open.
pub(super) fn config(
    family: &'static Family,
    root: &Fields<'_>,
    f: &Fields<'_>,
    model_type: &str,
    model: Model<String>,
    max_positions: usize,
) -> Result<Config> {
    let mut warnings = Vec::new();
    let mut either = |key: &str| match f.has(key) {
        true => f.token_ids(key, &mut warnings),
        false => root.token_ids(key, &mut warnings),
    };
    Ok(Config {
        path: root.file().to_owned(),
        family,
        model_type: model_type.to_owned(),
        context: Some(match model.ropes.first() {
            Some(rope) => rope.context(max_positions),
            None => max_positions,
        }),
        model,
        tie_word_embeddings: None,
        max_position_embeddings: Some(max_positions),
        quantization: Quantization::read(root, f)?,
        eos_token_ids: either("eos_token_id"),
        bos_token_id: either("bos_token_id").first().copied(),
        generation: GenerationDefaults::default(),
        warnings,
    })
}

/// `tie_word_embeddings` of families that do not tie unless told.
pub(super) fn tied(f: &Fields<'_>) -> Result<Option<bool>> {
    Ok(Some(f.flag("tie_word_embeddings")?.unwrap_or(false)))
}

/// `num_key_value_heads`: as many as `heads` where it is null, `default` where nothing is said of it.
pub(super) fn kv_heads(f: &Fields<'_>, heads: usize, default: usize) -> Result<usize> {
    match f.is_null("num_key_value_heads") {
        true => Ok(heads),
        false => Ok(f.size("num_key_value_heads")?.unwrap_or(default)),
    }
}

/// `attention_bias`: whether all maps of the attention have a bias, or none.
pub(super) fn attention_biases(f: &Fields<'_>) -> Result<Biases> {
    let there = f.flag("attention_bias")?.unwrap_or(false);
    Ok(Biases {
        qkv: there,
        o: there,
        mlp: false,
    })
}

/// The norms' epsilon, or the family's.
pub(super) fn eps(f: &Fields<'_>, default: f64) -> Result<f32> {
    Ok(f.positive("rms_norm_eps")?.unwrap_or(default) as f32)
}

/// `num_hidden_layers`.
pub(super) fn layer_count(f: &Fields<'_>) -> Result<usize> {
    let count = f.required_size("num_hidden_layers")?;
    match count {
        ..=4096 => Ok(count),
        _ => Err(f.problem(
            "num_hidden_layers",
            format!("{count} is more than any model has"),
        )),
    }
}

/// The window of each layer: `layer_types` where the file has it, else `sliding(i)` for each of
/// `num_hidden_layers` says whether a layer has `window`.
pub(super) fn windows(
    f: &Fields<'_>,
    window: Option<usize>,
    sliding: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let count = layer_count(f)?;
    let of = |slides: bool| match (slides, window) {
        (true, None) => Err(f.missing("sliding_window")),
        (true, window) => Ok(window),
        (false, _) => Ok(None),
    };
    let Some(value) = f.value("layer_types") else {
        return (0..count).map(|i| of(sliding(i))).collect();
    };
    let list = value
        .as_array()
        .ok_or_else(|| f.problem("layer_types", "is not a list"))?;
    if list.len() != count {
        let problem = format!("has {} entries for {count} layers", list.len());
        return Err(f.problem("layer_types", problem));
    }
    list.iter()
        .map(|entry| match entry.as_str() {
            Some("full_attention") => of(false),
            Some("sliding_attention") => of(true),
            _ => Err(f.problem(
                "layer_types",
                format!(
                    "{entry} is not supported; supported are full_attention, sliding_attention"
                ),
            )),
        })
        .collect()
}

/// `sliding_window`, in tokens, or `default` where nothing is said of it, or none where that is null. A
/// wider one than can be counted is none that is ever full.
pub(super) fn window(f: &Fields<'_>, default: usize) -> Result<Option<usize>> {
    if f.is_null("sliding_window") {
        return Ok(None);
    }
    let window = f.limit("sliding_window")?.unwrap_or(default);
    Ok(Some(window.min(i32::MAX as usize)))
}

/// The window of those layers of a Qwen that have one: there is none unless `use_sliding_window` is true.
pub(super) fn qwen_window(f: &Fields<'_>) -> Result<Option<usize>> {
    match f.flag("use_sliding_window")? {
        Some(true) => window(f, 4096),
        _ => Ok(None),
    }
}

/// The windows of Qwen's layers, which begin at layer `max_window_layers`.
pub(super) fn qwen_windows(f: &Fields<'_>) -> Result<Vec<Option<usize>>> {
    let window = qwen_window(f)?;
    let first = f.count("max_window_layers")?.unwrap_or(28);
    windows(f, window, |i| window.is_some() && i >= first)
}

/// Checks that `key`, where it is there, is one of the names of the one supported function.
pub(super) fn check_activation(f: &Fields<'_>, key: &str, names: &[&str]) -> Result<()> {
    match f.text(key)? {
        Some(name) if !names.contains(&name) => {
            let problem = format!("'{name}' is not supported; expected '{}'", names[0]);
            Err(f.problem(key, problem))
        }
        _ => Ok(()),
    }
}

/// Refuses an encoder.
pub(super) fn check_causal(f: &Fields<'_>) -> Result<()> {
    match f.flag("use_bidirectional_attention")? {
        Some(true) => {
            let problem = "true is an encoder's setting; only causal models can generate text";
            Err(f.problem("use_bidirectional_attention", problem))
        }
        _ => Ok(()),
    }
}
