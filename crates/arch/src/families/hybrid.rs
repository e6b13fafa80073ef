//! The keys of models in which a gated delta net stands in place of most attentions: Qwen3-Next, and Qwen3.5
//! dense and as a mixture.

use super::common::{SILU, attention_biases, check_activation, eps, kv_heads, layer_count};
use crate::fields::Fields;
use crate::layers::{At, Biases, Dims};
use crate::rope::Sources;
use crate::{
    Attention, Convolution, Delta, DeltaInputs, Layer, Mixer, Mlp, Model, Norm, Recurrent, Result,
    Rope, State,
};

/// What all layers of such a model are like but for their MLP.
pub(super) struct Hybrid {
    dims: Dims,
    biases: Biases,
    /// For each layer, whether it has attention.
    attends: Vec<bool>,
    state: Recurrent,
    key_heads: usize,
    ropes: Vec<Rope>,
    pub(super) max_positions: usize,
}

/// How the linear maps in front of a gated delta net are stored.
#[derive(Clone, Copy)]
pub(super) enum Inputs {
    /// Each by itself.
    Apart,
    /// The rows of each key head together.
    ByKeyHead,
}

/// More positions than any convolution sees.
const MAX_WIDTH: usize = 64;

impl Hybrid {
    /// `f` is the text model's object; `intermediate` and `kv` are the defaults of those.
    pub(super) fn read(f: &Fields<'_>, intermediate: usize, kv: usize) -> Result<Self> {
        check_activation(f, "hidden_act", SILU)?;
        let heads = f.size("num_attention_heads")?.unwrap_or(16);
        let dims = Dims {
            hidden: f.required_size("hidden_size")?,
            intermediate: f.size("intermediate_size")?.unwrap_or(intermediate),
            vocab: f.required_size("vocab_size")?,
            heads,
            kv_heads: kv_heads(f, heads, kv)?,
            head_dim: f.size("head_dim")?.unwrap_or(256),
            eps: eps(f, 1e-6)?,
            centered: true,
        };
        let max_positions = f.limit("max_position_embeddings")?.unwrap_or(32768);
        let key_heads = f.size("linear_num_key_heads")?.unwrap_or(16);
        Ok(Self {
            dims,
            biases: attention_biases(f)?,
            attends: attends(f)?,
            state: state(f, key_heads)?,
            key_heads,
            ropes: vec![rope(f, dims.head_dim, max_positions)?],
            max_positions,
        })
    }

    /// The model whose layers have these MLPs.
    pub(super) fn model(
        self,
        inputs: Inputs,
        mlp: impl Fn(&At<'_>) -> Mlp<String>,
    ) -> Model<String> {
        let layers = self.attends.iter().enumerate().map(|(i, attends)| {
            let at = self.dims.at(i, self.biases);
            let mlp = mlp(&at);
            match attends {
                true => (self.attention(&at, mlp), self.dims.keys(None)),
                false => {
                    let delta = Mixer::Delta(self.delta(&at, inputs));
                    (at.mixed(delta, mlp), State::Recurrent(self.state))
                }
            }
        });
        let layers = layers.unzip();
        self.dims.model(layers, self.ropes)
    }

    /// Attention whose query map has twice the rows: a gate behind each query.
    fn attention(&self, at: &At<'_>, mlp: Mlp<String>) -> Layer<String> {
        let rope = &self.ropes[0];
        let factor = rope.attention_factor();
        // Features that are not rotated have no factor, so the scale of whole scores cannot have it.
        let partial = rope.dims < self.dims.head_dim && factor != 1.0;
        let mut attention = Attention {
            q_norm: Some(at.head_norm("q_norm")),
            q_factor: partial.then_some((rope.dims, factor * factor)),
            k_norm: Some(at.head_norm("k_norm")),
            gated: true,
            ..at.attention(0)
        };
        attention.q.rows *= 2;
        at.pre_norm(attention, mlp)
    }

    fn delta(&self, at: &At<'_>, inputs: Inputs) -> Delta<String> {
        let (hidden, s) = (self.dims.hidden, &self.state);
        let values = s.heads * s.value_dim;
        let tensor = |name: &str| at.path(&format!("linear_attn.{name}"));
        let linear =
            |name: &str, rows, columns| at.linear(&format!("linear_attn.{name}"), rows, columns);
        let input = |name: &str, rows| linear(name, rows, hidden);
        Delta {
            inputs: match inputs {
                Inputs::Apart => DeltaInputs::Apart {
                    qkv: input("in_proj_qkv", s.channels),
                    z: input("in_proj_z", values),
                    b: input("in_proj_b", s.heads),
                    a: input("in_proj_a", s.heads),
                },
                Inputs::ByKeyHead => DeltaInputs::ByKeyHead {
                    qkvz: input("in_proj_qkvz", s.channels + values),
                    ba: input("in_proj_ba", 2 * s.heads),
                },
            },
            convolution: Convolution {
                weight: tensor("conv1d.weight"),
                channels: s.channels,
                width: s.tail + 1,
            },
            decay: tensor("A_log"),
            step: tensor("dt_bias"),
            norm: Norm {
                weight: tensor("norm.weight"),
                width: s.value_dim,
                eps: self.dims.eps,
                centered: false,
            },
            o: linear("out_proj", hidden, values),
            key_heads: self.key_heads,
            value_heads: s.heads,
            key_dim: s.key_dim,
            value_dim: s.value_dim,
            state: at.layer,
        }
    }
}

/// The object of the text model: the top level, or `text_config` of a model that sees images too.
pub(super) fn text<'a>(root: &Fields<'a>) -> Result<Fields<'a>> {
    Ok(root.object("text_config")?.unwrap_or_else(|| root.clone()))
}

/// `tie_word_embeddings`: the top level's counts, in transformers.
pub(super) fn tied(root: &Fields<'_>, f: &Fields<'_>) -> Result<Option<bool>> {
    const KEY: &str = "tie_word_embeddings";
    let own = f.flag(KEY)?.unwrap_or(false);
    Ok(Some(root.flag(KEY)?.unwrap_or(own)))
}

fn state(f: &Fields<'_>, key_heads: usize) -> Result<Recurrent> {
    let (heads_key, width_key) = ("linear_num_value_heads", "linear_conv_kernel_dim");
    let heads = f.size(heads_key)?.unwrap_or(32);
    if !heads.is_multiple_of(key_heads) {
        let problem = format!("{heads} is no multiple of linear_num_key_heads {key_heads}");
        return Err(f.problem(heads_key, problem));
    }
    let key_dim = f.size("linear_key_head_dim")?.unwrap_or(128);
    let value_dim = f.size("linear_value_head_dim")?.unwrap_or(128);
    let width = f.size(width_key)?.unwrap_or(4);
    if !(2..=MAX_WIDTH).contains(&width) {
        let problem = format!("{width} is not supported; from 2 to {MAX_WIDTH} positions are");
        return Err(f.problem(width_key, problem));
    }
    let product = |a: usize, b: usize| a.checked_mul(b);
    let channels = || {
        let (keys, values) = (product(key_heads, key_dim)?, product(heads, value_dim)?);
        let all = product(2, keys.checked_add(values)?)?;
        product(product(heads, key_dim)?, value_dim)
            .filter(|&matrices| matrices.max(all) <= i32::MAX as usize)?;
        Some(all - values)
    };
    let channels = channels().ok_or_else(|| {
        let problem =
            format!("{heads} heads of {key_dim} and {value_dim} are more than any model has");
        f.problem(heads_key, problem)
    })?;
    Ok(Recurrent {
        channels,
        tail: width - 1,
        heads,
        key_dim,
        value_dim,
    })
}

/// The rotation of the first features of a head, a quarter unless told otherwise.
fn rope(f: &Fields<'_>, head_dim: usize, max_positions: usize) -> Result<Rope> {
    const KEY: &str = "partial_rotary_factor";
    let (scaling, parameters) = (f.object("rope_scaling")?, f.object("rope_parameters")?);
    let nested = match &parameters {
        Some(p) => p.positive(KEY)?,
        None => None,
    };
    let factor = match nested {
        Some(factor) => factor,
        None => f.positive(KEY)?.unwrap_or(0.25),
    };
    let dims = (head_dim as f64 * factor) as usize;
    if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) {
        let problem =
            format!("{factor} of a head of {head_dim} is {dims}; it must be even and within it");
        return Err(f.problem(KEY, problem));
    }
    Rope::read(&Sources {
        head_dim: dims,
        partial: true,
        scaling,
        parameters,
        theta: f.positive("rope_theta")?,
        default_theta: 10_000.0,
        original: f.positive("original_max_position_embeddings")?,
        max_positions,
    })
}

/// `layer_types` where the file has it, else every `full_attention_interval`th layer has attention.
fn attends(f: &Fields<'_>) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let count = layer_count(f)?;
    let interval = f.size("full_attention_interval")?.unwrap_or(4);
    let Some(value) = f.value(KEY) else {
        let layers = 1..=count;
        return Ok(layers.map(|i| i.is_multiple_of(interval)).collect());
    };
    let list = value
        .as_array()
        .ok_or_else(|| f.problem(KEY, "is not a list"))?;
    if list.len() != count {
        let problem = format!("has {} entries for {count} layers", list.len());
        return Err(f.problem(KEY, problem));
    }
    let attends = list.iter().map(|entry| match entry.as_str() {
        Some("full_attention") => Ok(true),
        Some("linear_attention") => Ok(false),
        _ => Err(f.problem(
            KEY,
            format!("{entry} is not supported; supported are full_attention, linear_attention"),
        )),
    });
    attends.collect()
}
