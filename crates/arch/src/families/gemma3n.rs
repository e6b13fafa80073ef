//! Gemma 3n, text: several residual streams of which a layer computes one (AltUp), a map of low rank beside the
//! attention (Laurel), MLPs of which the first ones cut their gates, an input of each layer for each token, keys and
//! values that the last layers take from layers before them, values with a norm of their own.
//!
//! Keys and defaults are those of transformers' `Gemma3nTextConfig`, which stands at the top level (`gemma3n_text`)
//! or under `text_config` (`gemma3n`). `altup_coef_clip` is a bound that weights have had in training: transformers
//! applies it there alone, mlx-lm each time; what was trained within it is the same in both.

use serde_json::Value;

use super::Family;
use super::common::{
    GELU_TANH, attention_biases, check_activation, check_causal, config, eps, layer_count, window,
    windows,
};
use super::gemma3::ropes;
use super::gemma4::{inputs_of, per_layer, shared};
use super::normal::quantile;
use crate::fields::Fields;
use crate::layers::{At, Dims, linear};
use crate::{
    Activation, AltUp, Attention, Config, Gated, Laurel, Layer, Mlp, Result, Streams, Sub,
};

pub(super) const FAMILY: Family = Family {
    name: "Gemma 3n",
    model_types: &["gemma3n_text", "gemma3n"],
    published: PUBLISHED,
    read,
};

const ACTIVATION: Activation = Activation::GeluTanh;

/// Of so many layers the last one is full, where the file does not say which are.
const PATTERN: usize = 5;

/// Layers that cut their gates, and at which share, where the file does not say which do: none of fewer layers.
const CUT_LAYERS: usize = 10;
const CUT: f64 = 0.95;

/// The rotations of full and of sliding layers.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

fn read(root: &Fields<'_>, model_type: &str) -> Result<Config> {
    let nested = match model_type {
        "gemma3n" => root.object("text_config")?,
        _ => None,
    };
    let f = nested.as_ref().unwrap_or(root);
    check_activation(f, "hidden_activation", GELU_TANH)?;
    check_causal(f)?;
    let count = layer_count(f)?;
    let widths = widths(f, count)?;
    let dims = Dims {
        hidden: f.size("hidden_size")?.unwrap_or(2048),
        intermediate: widths[0],
        vocab: f.size("vocab_size")?.unwrap_or(262_400),
        heads: f.size("num_attention_heads")?.unwrap_or(8),
        kv_heads: f.size("num_key_value_heads")?.unwrap_or(2),
        head_dim: f.size("head_dim")?.unwrap_or(256),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let slides = |i: usize| !(i + 1).is_multiple_of(PATTERN);
    let windows = windows(f, window(f, 512)?, slides)?;
    let (donors, states) = shared(f, &windows, 15, |i| dims.keys(windows[i]))?;
    let max_positions = f.limit("max_position_embeddings")?.unwrap_or(32_768);
    let ropes = ropes(f, dims.head_dim, max_positions)?;
    let cuts = cuts(f, count)?;
    let altup = Updates::read(f, &dims)?;
    let rank = f.size("laurel_rank")?.unwrap_or(64);
    let input = f.size("hidden_size_per_layer_input")?.unwrap_or(256);
    let biases = attention_biases(f)?;

    let first_shared = states.len();
    let layers = (0..count).map(|i| {
        let intermediate = widths[i];
        let of_layer = Dims {
            intermediate,
            ..dims
        };
        let at = of_layer.at(i, biases);
        let slides = windows[i].is_some();
        let attention = attention(&at, slides, donors[i], i >= first_shared);
        let layer = at.sandwiched(attention, ACTIVATION);
        Layer {
            altup: Some(altup.of(&at, rank)),
            mlp: Sub {
                part: Mlp::Gated(Gated {
                    cut: cuts[i],
                    ..at.gated_mlp(ACTIVATION)
                }),
                ..layer.mlp
            },
            per_layer: Some(per_layer(&at, input)),
            ..layer
        }
    });
    let mut model = dims.model((layers.collect(), states), ropes.into());
    model.embedding.scale = dims.root_of_hidden();
    model.streams = Some(altup.ends(&dims));
    // Tokens that it has no row for are images and sounds; where one is in a text, its row is the first.
    let rows = f.size("vocab_size_per_layer_input")?.unwrap_or(262_144);
    model.per_layer = Some(inputs_of(f, &dims, input, count, rows)?);
    model.softcap = match f.is_null("final_logit_softcapping") {
        true => None,
        false => Some(f.positive("final_logit_softcapping")?.unwrap_or(30.0)),
    };
    Ok(Config {
        // Of a nested model the top level's counts, in transformers.
        tie_word_embeddings: root.flag("tie_word_embeddings")?,
        ..config(&FAMILY, root, f, model_type, model, max_positions)?
    })
}

fn attention(at: &At<'_>, slides: bool, state: usize, shares: bool) -> Attention<String> {
    let plain = at.attention(if slides { LOCAL } else { GLOBAL });
    Attention {
        q_norm: Some(at.head_norm("q_norm")),
        k_norm: (!shares).then(|| at.head_norm("k_norm")),
        v_norm: (!shares).then(|| at.eps()),
        k: plain.k.filter(|_| !shares),
        v: plain.v.filter(|_| !shares),
        scale: 1.0,
        state,
        ..plain
    }
}

/// `intermediate_size`: one for all layers, or one for each.
fn widths(f: &Fields<'_>, layers: usize) -> Result<Vec<usize>> {
    let key = "intermediate_size";
    let Some(list) = f.value(key).and_then(Value::as_array) else {
        return Ok(vec![f.size(key)?.unwrap_or(16_384); layers]);
    };
    let width = |value: &Value| {
        let width = value.as_u64().and_then(|n| usize::try_from(n).ok());
        width.filter(|n| (1..=i32::MAX as usize).contains(n))
    };
    let widths: Option<Vec<usize>> = list.iter().map(width).collect();
    let widths = widths.filter(|widths| widths.len() == layers);
    widths.ok_or_else(|| {
        let problem =
            format!("expected {layers} whole numbers from 1 on, one a layer, or one for all");
        f.problem(key, problem)
    })
}

/// `activation_sparsity_pattern`: the share of a layer's gates that are cut off if they are distributed normally, as
/// standard deviations above the mean.
fn cuts(f: &Fields<'_>, layers: usize) -> Result<Vec<Option<f64>>> {
    let key = "activation_sparsity_pattern";
    let cut = |share: f64| (share > 0.0).then(|| quantile(share));
    let Some(value) = f.value(key) else {
        let first = if layers > CUT_LAYERS { CUT_LAYERS } else { 0 };
        let share = |i| if i < first { CUT } else { 0.0 };
        return Ok((0..layers).map(|i| cut(share(i))).collect());
    };
    let list = value.as_array().filter(|list| list.len() == layers);
    let shares = list.and_then(|list| {
        let share = |value: &Value| value.as_f64().filter(|share| (0.0..1.0).contains(share));
        list.iter().map(share).collect::<Option<Vec<f64>>>()
    });
    let shares = shares.ok_or_else(|| {
        let problem = format!("expected {layers} numbers from 0 to below 1, one a layer");
        f.problem(key, problem)
    })?;
    Ok(shares.into_iter().map(cut).collect())
}

/// What all layers' alternating updates are like.
struct Updates {
    streams: usize,
    active: usize,
    scaled: bool,
}

impl Updates {
    /// More streams would be no mistake that a sum notices.
    const MOST: usize = 64;

    fn read(f: &Fields<'_>, dims: &Dims) -> Result<Self> {
        let key = "altup_num_inputs";
        let streams = f.size(key)?.unwrap_or(4);
        let all = streams.checked_mul(dims.hidden);
        if streams > Self::MOST || all.is_none_or(|all| all > i32::MAX as usize) {
            let problem = format!("{streams} streams are more than any model has");
            return Err(f.problem(key, problem));
        }
        let key = "altup_active_idx";
        let active = f.count(key)?.unwrap_or(0);
        if active >= streams {
            let problem = format!("there is no stream {active} among {streams}");
            return Err(f.problem(key, problem));
        }
        Ok(Self {
            streams,
            active,
            scaled: f.flag("altup_correct_scale")?.unwrap_or(true),
        })
    }

    fn of(&self, at: &At<'_>, rank: usize) -> AltUp<String> {
        let router_norm = at.norm("altup.router_norm");
        let (n, hidden) = (self.streams, router_norm.width);
        let scale = || at.path("altup.correct_output_scale");
        AltUp {
            streams: n,
            active: self.active,
            router: at.linear("altup.modality_router", n, hidden),
            router_norm,
            router_scale: (hidden as f64).recip(),
            prediction: at.linear("altup.prediction_coefs", n * n, n),
            correction: at.linear("altup.correction_coefs", n, n),
            output_scale: self.scaled.then(scale),
            laurel: Laurel {
                left: at.linear("laurel.linear_left", rank, hidden),
                right: at.linear("laurel.linear_right", hidden, rank),
                norm: at.norm("laurel.post_laurel_norm"),
            },
        }
    }

    fn ends(&self, dims: &Dims) -> Streams<String> {
        let all = |name: &str| {
            let one = |i| linear(&format!("{name}.{i}"), dims.hidden, dims.hidden, false);
            (0..self.streams - 1).map(one).collect()
        };
        Streams {
            projections: all("altup_projections"),
            unprojections: all("altup_unembed_projections"),
            least: 1e-5,
        }
    }
}

/// The text models, whose files hold encoders of images and sound beside them.
const PUBLISHED: &[(&str, &str)] = &[
    (
        "gemma3n-e2b",
        r#"{"model_type": "gemma3n_text", "hidden_size": 2048, "num_hidden_layers": 30, "intermediate_size": 8192,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "num_kv_shared_layers": 10,
            "hidden_size_per_layer_input": 256, "vocab_size": 262400, "vocab_size_per_layer_input": 262144,
            "sliding_window": 512, "final_logit_softcapping": 30.0, "laurel_rank": 64, "altup_num_inputs": 4,
            "max_position_embeddings": 32768}"#,
    ),
    (
        "gemma3n-e4b",
        r#"{"model_type": "gemma3n_text", "hidden_size": 2048, "num_hidden_layers": 35, "intermediate_size": 16384,
            "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "num_kv_shared_layers": 15,
            "hidden_size_per_layer_input": 256, "vocab_size": 262400, "vocab_size_per_layer_input": 262144,
            "sliding_window": 512, "final_logit_softcapping": 30.0, "laurel_rank": 64, "altup_num_inputs": 4,
            "max_position_embeddings": 32768}"#,
    ),
];
