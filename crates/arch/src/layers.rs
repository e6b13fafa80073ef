//! What families write their layers with: dimensions, and places in the tree of tensor names.

use crate::{
    Activation, Attention, Embedding, Experts, Gated, Keys, Layer, Linear, Mixer, Mlp, Model, Norm,
    Rope, Shared, State, Sub,
};

/// The dimensions of a model whose layers are alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) vocab: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// Of every norm.
    pub(crate) eps: f32,
    /// Whether norms are stored less one.
    pub(crate) centered: bool,
}

/// Which of a layer's linear maps have a bias.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Biases {
    pub(crate) qkv: bool,
    pub(crate) o: bool,
    pub(crate) mlp: bool,
}

/// What a mixture of experts is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixture {
    pub(crate) count: usize,
    pub(crate) top: usize,
    pub(crate) renormalised: bool,
    /// Features inside an expert.
    pub(crate) width: usize,
    /// Features inside the expert that every token has.
    pub(crate) shared: Option<usize>,
}

/// A layer's place among the names, and what its parts are like.
pub(crate) struct At<'a> {
    dims: &'a Dims,
    biases: Biases,
    pub(crate) layer: usize,
}

impl Dims {
    /// The layers of a model, each made by `layer`, with the states that they name; `windows` has a window,
    /// or none, for each.
    pub(crate) fn layers(
        &self,
        windows: &[Option<usize>],
        biases: Biases,
        layer: impl Fn(&At<'_>, Option<usize>) -> Layer<String>,
    ) -> (Vec<Layer<String>>, Vec<State>) {
        let layers = windows.iter().enumerate();
        let layers = layers.map(|(i, window)| layer(&self.at(i, biases), *window));
        let states = windows.iter().map(|window| self.keys(*window));
        (layers.collect(), states.collect())
    }

    /// The state of an attention that sees this window, or everything.
    pub(crate) fn keys(&self, window: Option<usize>) -> State {
        State::Keys(Keys {
            heads: self.kv_heads,
            head_dim: self.head_dim,
            window,
        })
    }

    /// The place of layer `layer`.
    pub(crate) fn at(&self, layer: usize, biases: Biases) -> At<'_> {
        At {
            dims: self,
            biases,
            layer,
        }
    }

    /// The model of these layers and states: embedding, last norm and head under the names that all families
    /// give them, nothing scaled or squashed.
    pub(crate) fn model(
        &self,
        (layers, states): (Vec<Layer<String>>, Vec<State>),
        ropes: Vec<Rope>,
    ) -> Model<String> {
        Model {
            embedding: Embedding {
                table: linear("embed_tokens", self.vocab, self.hidden, false),
                scale: None,
            },
            per_layer: None,
            streams: None,
            layers,
            norm: self.norm("norm", self.hidden),
            head: linear("lm_head", self.vocab, self.hidden, false),
            softcap: None,
            ropes,
            states,
            bidirectional: false,
        }
    }

    /// What Gemma multiplies embeddings by.
    pub(crate) fn root_of_hidden(&self) -> Option<f64> {
        Some((self.hidden as f64).sqrt())
    }

    /// The norm `path`, of rows of `width`.
    pub(crate) fn norm(&self, path: &str, width: usize) -> Norm<String> {
        Norm {
            weight: format!("{path}.weight"),
            width,
            eps: self.eps,
            centered: self.centered,
        }
    }
}

impl At<'_> {
    /// That of every norm.
    pub(crate) fn eps(&self) -> f32 {
        self.dims.eps
    }

    /// The norm `name`, of the residual stream.
    pub(crate) fn norm(&self, name: &str) -> Norm<String> {
        self.dims.norm(&self.path(name), self.dims.hidden)
    }

    /// The norm `name` of the attention, of one head.
    pub(crate) fn head_norm(&self, name: &str) -> Norm<String> {
        self.dims
            .norm(&self.path(&format!("self_attn.{name}")), self.dims.head_dim)
    }

    /// Attention without norms of its own, its scores divided by the root of the head's width.
    pub(crate) fn attention(&self, rope: usize) -> Attention<String> {
        let d = self.dims;
        let (queries, keys) = (d.heads * d.head_dim, d.kv_heads * d.head_dim);
        let linear = |name: &str, rows, columns, bias| {
            linear(
                &self.path(&format!("self_attn.{name}")),
                rows,
                columns,
                bias,
            )
        };
        Attention {
            q: linear("q_proj", queries, d.hidden, self.biases.qkv),
            k: Some(linear("k_proj", keys, d.hidden, self.biases.qkv)),
            v: Some(linear("v_proj", keys, d.hidden, self.biases.qkv)),
            o: linear("o_proj", d.hidden, queries, self.biases.o),
            q_norm: None,
            q_factor: None,
            k_norm: None,
            v_norm: None,
            heads: d.heads,
            kv_heads: d.kv_heads,
            head_dim: d.head_dim,
            sinks: None,
            rope,
            scale: (d.head_dim as f64).powf(-0.5),
            softcap: None,
            gated: false,
            state: self.layer,
        }
    }

    /// The gated MLP.
    pub(crate) fn mlp(&self, activation: Activation) -> Mlp<String> {
        Mlp::Gated(self.gated_mlp(activation))
    }

    /// The same, as a part of something else.
    pub(crate) fn gated_mlp(&self, activation: Activation) -> Gated<String> {
        let width = self.dims.intermediate;
        self.gated("mlp", width, self.biases.mlp, activation)
    }

    /// The mixture of experts, under the names that Qwen2 gave its parts.
    pub(crate) fn experts(&self, of: &Mixture, activation: Activation) -> Mlp<String> {
        let shared = of.shared.map(|width| Shared {
            gate: self.linear("mlp.shared_expert_gate", 1, self.dims.hidden),
            mlp: self.gated("mlp.shared_expert", width, false, activation),
        });
        Mlp::Experts(Experts {
            shared,
            ..self.mixture(["mlp.gate", "mlp.experts"], of, activation)
        })
    }

    /// The mixture whose router and experts are called so, without a shared expert.
    pub(crate) fn mixture(
        &self,
        [router, experts]: [&str; 2],
        of: &Mixture,
        activation: Activation,
    ) -> Experts<String> {
        let each = self.gated(experts, of.width, false, activation);
        let stacked = |linear| Linear {
            experts: Some(of.count),
            ..linear
        };
        Experts {
            router: self.linear(router, of.count, self.dims.hidden),
            router_norm: None,
            router_scale: 1.0,
            count: of.count,
            top: of.top,
            renormalised: of.renormalised,
            share_scales: None,
            each: Gated {
                gate: stacked(each.gate),
                up: stacked(each.up),
                down: stacked(each.down),
                activation,
                cut: None,
            },
            shared: None,
        }
    }

    fn gated(&self, path: &str, width: usize, bias: bool, activation: Activation) -> Gated<String> {
        let hidden = self.dims.hidden;
        let linear = |name: &str, rows, columns| {
            linear(&self.path(&format!("{path}.{name}")), rows, columns, bias)
        };
        Gated {
            gate: linear("gate_proj", width, hidden),
            up: linear("up_proj", width, hidden),
            down: linear("down_proj", hidden, width),
            activation,
            cut: None,
        }
    }

    /// The layer `x + attention(norm(x))`, then `x + mlp(norm(x))`, with the names that Llama gave the norms.
    pub(crate) fn pre_norm(&self, attention: Attention<String>, mlp: Mlp<String>) -> Layer<String> {
        self.mixed(Mixer::Attention(attention), mlp)
    }

    /// The same with anything in place of the attention.
    pub(crate) fn mixed(&self, mixer: Mixer<String>, mlp: Mlp<String>) -> Layer<String> {
        Layer {
            altup: None,
            mixer: Sub {
                before: self.norm("input_layernorm"),
                part: mixer,
                after: None,
            },
            mlp: Sub {
                before: self.norm("post_attention_layernorm"),
                part: mlp,
                after: None,
            },
            per_layer: None,
            scale: None,
        }
    }

    /// The layer `x + after(attention(before(x)))`, then `x + after(mlp(before(x)))`, with the names that Gemma 2
    /// gave the four norms.
    pub(crate) fn sandwiched(
        &self,
        attention: Attention<String>,
        activation: Activation,
    ) -> Layer<String> {
        Layer {
            altup: None,
            mixer: Sub {
                before: self.norm("input_layernorm"),
                part: Mixer::Attention(attention),
                after: Some(self.norm("post_attention_layernorm")),
            },
            mlp: Sub {
                before: self.norm("pre_feedforward_layernorm"),
                part: self.mlp(activation),
                after: Some(self.norm("post_feedforward_layernorm")),
            },
            per_layer: None,
            scale: None,
        }
    }

    /// The linear map `name` without a bias.
    pub(crate) fn linear(&self, name: &str, rows: usize, columns: usize) -> Linear<String> {
        linear(&self.path(name), rows, columns, false)
    }

    /// The layer's tensor or matrix `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("layers.{}.{name}", self.layer)
    }
}

/// The linear map at `path`.
pub(crate) fn linear(path: &str, rows: usize, columns: usize, bias: bool) -> Linear<String> {
    Linear {
        weight: path.to_owned(),
        bias: bias.then(|| format!("{path}.bias")),
        rows,
        columns,
        experts: None,
        by_turns: false,
    }
}
