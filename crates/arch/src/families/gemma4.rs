//! Gemma 4, text: Gemma 3's layers with norms stored as they are, heads of one size in sliding layers and of
//! another in full ones, values with a norm of their own and in some sizes made from keys, keys and values
//! that the last layers take from layers before them, an input of each layer for each token (E2B, E4B), and
//! experts beside the MLP (26B-A4B).
//!
//! Keys and defaults are those of transformers' `Gemma4TextConfig` and `Gemma4UnifiedTextConfig` (12B), which
//! stand at the top level or under `text_config`. What full layers have otherwise than sliding ones is spelled
//! in two ways: `global_head_dim` and `num_global_key_value_heads`, as published, or `per_layer_config`, a map
//! from layers to what they have, as transformers 5 writes it.

use super::Family;
use super::common::{
    GELU_TANH, attention_biases, check_activation, config, eps, layer_count, window, windows,
};
use super::gemma4_heads::Heads;
use super::gemma4_published::PUBLISHED;
use crate::fields::Fields;
use crate::layers::{At, Dims, Mixture, linear};
use crate::rope::Sources;
use crate::{
    Activation, Attention, Both, Config, Embedding, Keys, Layer, Mlp, Norm, PerLayer,
    PerLayerInputs, Result, Rope, RopeScaling, State, Sub,
};

pub(super) const FAMILY: Family = Family {
    name: "Gemma 4",
    model_types: &[
        "gemma4_text",
        "gemma4",
        "gemma4_unified_text",
        "gemma4_unified",
    ],
    published: PUBLISHED,
    read,
};

const ACTIVATION: Activation = Activation::GeluTanh;

/// Of so many layers the last one is full, where the file does not say which are.
const PATTERN: usize = 6;

/// The rotations of full and of sliding layers.
const GLOBAL: usize = 0;
const LOCAL: usize = 1;

fn read(root: &Fields<'_>, model_type: &str) -> Result<Config> {
    let nested = match model_type {
        "gemma4" | "gemma4_unified" => root.object("text_config")?,
        _ => None,
    };
    let f = nested.as_ref().unwrap_or(root);
    // No encoder, no inputs of layers, no experts, and other defaults.
    let unified = model_type.starts_with("gemma4_unified");
    check_activation(f, "hidden_activation", GELU_TANH)?;
    check_causal(f)?;
    let base = Dims {
        hidden: f.size("hidden_size")?.unwrap_or(2304),
        intermediate: f.size("intermediate_size")?.unwrap_or(9216),
        vocab: f.size("vocab_size")?.unwrap_or(262_144),
        heads: f.size("num_attention_heads")?.unwrap_or(8),
        kv_heads: f.size("num_key_value_heads")?.unwrap_or(4),
        head_dim: f.size("head_dim")?.unwrap_or(256),
        eps: eps(f, 1e-6)?,
        centered: false,
    };
    let count = layer_count(f)?;
    let default_window = if unified { 1024 } else { 512 };
    let slides = |i: usize| !(i + 1).is_multiple_of(PATTERN);
    let mut windows = windows(f, window(f, default_window)?, slides)?;
    if let Some(last) = windows.last_mut() {
        // Whatever `layer_types` says of it.
        *last = None;
    }
    let heads = Heads::read(f, &windows, [base.kv_heads, base.head_dim])?;
    let (donors, states) = shared(f, &windows, 0, |i| {
        let [heads, head_dim] = heads.of(i);
        State::Keys(Keys {
            heads,
            head_dim,
            window: windows[i],
        })
    })?;
    let max_positions = f.limit("max_position_embeddings")?;
    let max_positions = max_positions.unwrap_or(if unified { 262_144 } else { 131_072 });
    let of_kind = |slides: bool| windows.iter().position(|w| w.is_some() == slides);
    let head_dim = |slides| of_kind(slides).map_or(base.head_dim, |i| heads.of(i)[1]);
    let ropes = ropes(f, [head_dim(false), head_dim(true)], max_positions)?;
    let doubled = f.flag("use_double_wide_mlp")?.unwrap_or(false);
    if doubled && base.intermediate > i32::MAX as usize / 2 {
        let problem = format!("twice {} is more than any model has", base.intermediate);
        return Err(f.problem("intermediate_size", problem));
    }
    let parts = Parts {
        biases: attention_biases(f)?,
        key_is_value: f.flag("attention_k_eq_v")?.unwrap_or(false),
        mixture: mixture(f, unified)?,
        input: inputs_width(f, unified)?,
    };

    let first_shared = states.len();
    let layers = (0..count).map(|i| {
        let [kv_heads, head_dim] = heads.of(i);
        let shares = i >= first_shared;
        let dims = Dims {
            kv_heads,
            head_dim,
            intermediate: match doubled && shares {
                true => 2 * base.intermediate,
                false => base.intermediate,
            },
            ..base
        };
        let (slides, state) = (windows[i].is_some(), donors[i]);
        parts.layer(&dims.at(i, parts.biases), slides, state, shares)
    });
    let mut model = base.model((layers.collect(), states), ropes.into());
    model.embedding.scale = base.root_of_hidden();
    model.per_layer = inputs(f, &base, parts.input, count)?;
    model.softcap = f.positive("final_logit_softcapping")?;
    Ok(Config {
        // Of a nested model the top level's counts, in transformers.
        tie_word_embeddings: root.flag("tie_word_embeddings")?,
        ..config(&FAMILY, root, f, model_type, model, max_positions)?
    })
}

/// What the layers of a size are made of.
struct Parts {
    biases: crate::layers::Biases,
    /// Whether values of full layers are made from keys.
    key_is_value: bool,
    mixture: Option<Mixture>,
    /// Features of a layer's own input.
    input: Option<usize>,
}

impl Parts {
    fn layer(&self, at: &At<'_>, slides: bool, state: usize, shares: bool) -> Layer<String> {
        let plain = at.attention(if slides { LOCAL } else { GLOBAL });
        let attention = Attention {
            q_norm: Some(at.head_norm("q_norm")),
            k_norm: (!shares).then(|| at.head_norm("k_norm")),
            v_norm: (!shares).then(|| at.eps()),
            k: plain.k.filter(|_| !shares),
            v: plain
                .v
                .filter(|_| !shares && (slides || !self.key_is_value)),
            scale: 1.0,
            state,
            ..plain
        };
        let layer = at.sandwiched(attention, ACTIVATION);
        Layer {
            mlp: match &self.mixture {
                Some(mixture) => Sub {
                    part: Mlp::Both(both(at, mixture)),
                    ..layer.mlp
                },
                None => layer.mlp,
            },
            per_layer: self.input.map(|width| per_layer(at, width)),
            scale: Some(at.path("layer_scalar")),
            ..layer
        }
    }
}

/// The MLP and the experts.
fn both(at: &At<'_>, mixture: &Mixture) -> Both<String> {
    let experts = at.mixture(["router.proj", "experts"], mixture, ACTIVATION);
    Both {
        gated: at.gated_mlp(ACTIVATION),
        after: at.norm("post_feedforward_layernorm_1"),
        experts: Sub {
            before: at.norm("pre_feedforward_layernorm_2"),
            part: crate::Experts {
                router_norm: Some(Norm {
                    weight: at.path("router.scale"),
                    ..at.norm("router")
                }),
                router_scale: (experts.router.columns as f64).powf(-0.5),
                share_scales: Some(at.path("router.per_expert_scale")),
                ..experts
            },
            after: Some(at.norm("post_feedforward_layernorm_2")),
        },
    }
}

/// What a layer adds of its own input of `width` features.
pub(super) fn per_layer(at: &At<'_>, width: usize) -> PerLayer<String> {
    let norm = at.norm("post_per_layer_input_norm");
    PerLayer {
        gate: at.linear("per_layer_input_gate", width, norm.width),
        activation: ACTIVATION,
        projection: at.linear("per_layer_projection", norm.width, width),
        norm,
    }
}

/// Refuses an encoder. Images alone see what comes behind them where it says `vision`.
fn check_causal(f: &Fields<'_>) -> Result<()> {
    let key = "use_bidirectional_attention";
    match f.value(key).map(|value| value.as_str()) {
        None | Some(Some("vision")) => Ok(()),
        _ if f.value(key).and_then(|value| value.as_bool()) == Some(false) => Ok(()),
        _ => {
            let problem = "only 'vision' and null are supported; another value is an encoder's";
            Err(f.problem(key, problem))
        }
    }
}

/// The state of each layer, and the states, of which `state` has those of layers with keys of their own: the
/// last layers, `default` of them if nothing else is said, have that of the last layer of their kind which has some.
pub(super) fn shared(
    f: &Fields<'_>,
    windows: &[Option<usize>],
    default: usize,
    state: impl Fn(usize) -> State,
) -> Result<(Vec<usize>, Vec<State>)> {
    let key = "num_kv_shared_layers";
    let count = f.count(key)?.unwrap_or(default);
    let own = windows.len().checked_sub(count).filter(|own| *own > 0);
    let own = own.ok_or_else(|| {
        let problem = format!(
            "{count} of {} layers; some need keys of their own",
            windows.len()
        );
        f.problem(key, problem)
    })?;
    let mut donors: Vec<usize> = (0..own).collect();
    for i in own..windows.len() {
        let alike = |donor: &usize| windows[*donor] == windows[i];
        let donor = (0..own).rev().find(alike).filter(|d| state(*d) == state(i));
        donors.push(donor.ok_or_else(|| {
            let problem = format!("layer {i} has no layer before it whose keys it could share");
            f.problem(key, problem)
        })?);
    }
    Ok((donors, (0..own).map(state).collect()))
}

/// The mixture of experts, if there is one.
fn mixture(f: &Fields<'_>, unified: bool) -> Result<Option<Mixture>> {
    if unified || !f.flag("enable_moe_block")?.unwrap_or(false) {
        return Ok(None);
    }
    let key = match f.has("num_experts") {
        true => "num_experts",
        false => "num_local_experts",
    };
    let (count, top) = (f.required_size(key)?, f.required_size("top_k_experts")?);
    if top > count {
        let problem = format!("{top} of {count} experts; a token cannot have more than there are");
        return Err(f.problem("top_k_experts", problem));
    }
    Ok(Some(Mixture {
        count,
        top,
        renormalised: true,
        width: f.required_size("moe_intermediate_size")?,
        shared: None,
    }))
}

/// Features of a layer's own input, if there are any.
fn inputs_width(f: &Fields<'_>, unified: bool) -> Result<Option<usize>> {
    let key = "hidden_size_per_layer_input";
    let width = match unified || f.is_null(key) {
        true => 0,
        false => f.count(key)?.unwrap_or(256),
    };
    Ok((width > 0).then_some(width))
}

fn inputs(
    f: &Fields<'_>,
    dims: &Dims,
    width: Option<usize>,
    layers: usize,
) -> Result<Option<PerLayerInputs<String>>> {
    let Some(width) = width else {
        return Ok(None);
    };
    let key = "vocab_size_per_layer_input";
    let rows = f.size(key)?.unwrap_or(262_144);
    if rows < dims.vocab {
        let problem = format!("{rows} rows are too few for {} tokens", dims.vocab);
        return Err(f.problem(key, problem));
    }
    inputs_of(f, dims, width, layers, rows).map(Some)
}

/// The inputs of so many layers, of `width` features each, by a table of `rows`.
pub(super) fn inputs_of(
    f: &Fields<'_>,
    dims: &Dims,
    width: usize,
    layers: usize,
    rows: usize,
) -> Result<PerLayerInputs<String>> {
    let columns = width.checked_mul(layers);
    let columns = columns.filter(|n| i32::try_from(*n).is_ok());
    let columns = columns.ok_or_else(|| {
        let problem = format!("{width} features for {layers} layers are more than any model has");
        f.problem("hidden_size_per_layer_input", problem)
    })?;
    Ok(PerLayerInputs {
        embedding: Embedding {
            table: linear("embed_tokens_per_layer", rows, columns, false),
            scale: Some((width as f64).sqrt()),
        },
        projection: linear("per_layer_model_projection", columns, dims.hidden, false),
        projection_scale: (dims.hidden as f64).powf(-0.5),
        norm: dims.norm("per_layer_projection_norm", width),
        scale: 0.5f64.sqrt(),
        width,
    })
}

/// The rotations of full and of sliding layers: without `rope_parameters` a quarter of a full layer's planes
/// turns.
fn ropes(f: &Fields<'_>, head_dims: [usize; 2], max_positions: usize) -> Result<[Rope; 2]> {
    let nested = f.object("rope_parameters")?;
    let defaults = [
        (
            "full_attention",
            1_000_000.0,
            RopeScaling::Proportional {
                share: 0.25,
                factor: 1.0,
            },
        ),
        ("sliding_attention", 10_000.0, RopeScaling::None),
    ];
    let mut ropes = Vec::with_capacity(2);
    for ((kind, theta, scaling), head_dim) in defaults.into_iter().zip(head_dims) {
        let parameters = match &nested {
            Some(nested) => nested.object(kind)?,
            None => None,
        };
        ropes.push(match parameters {
            Some(parameters) => Rope::read(&Sources {
                head_dim,
                partial: false,
                scaling: None,
                parameters: Some(parameters),
                theta: None,
                default_theta: theta,
                original: None,
                max_positions,
            })?,
            None => Rope {
                dims: head_dim,
                theta,
                scaling,
            },
        });
    }
    let [global, local] = [ropes.swap_remove(0), ropes.swap_remove(0)];
    Ok([global, local])
}
