//! Walks of a model: every tensor once, in the order of the forward pass.

use crate::{
    AltUp, Attention, Convolution, Delta, DeltaInputs, Experts, Gated, Keys, Layer, Linear, Mixer,
    Mlp, Model, Norm, PerLayer, PerLayerInputs, Recurrent, State, Streams,
};

/// A tensor of a model, or the tensors that are one matrix, or one stack of matrices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part<'a, T> {
    /// A matrix; its bias is a part of its own.
    Matrix(&'a Linear<T>),
    /// The bias of a matrix, and its length.
    Bias(&'a T, usize),
    /// The biases of a stack of matrices.
    Biases(&'a Linear<T>),
    /// The weight of a norm.
    Norm(&'a Norm<T>),
    /// A number for each head, and how many they are.
    Heads(&'a T, usize),
    /// The weights of a convolution.
    Convolution(&'a Convolution<T>),
    /// Factors, and how many.
    Factors(&'a T, usize),
}

impl<'a, T> Part<'a, T> {
    fn of(linear: &'a Linear<T>) -> impl Iterator<Item = Self> {
        let bias = linear.bias.as_ref().map(|b| match linear.experts {
            Some(_) => Self::Biases(linear),
            None => Self::Bias(b, linear.rows),
        });
        std::iter::once(Self::Matrix(linear)).chain(bias)
    }

    /// Weights: a matrix's as it computes, whatever it is stored in.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Matrix(m) => {
                let one = (m.rows as u64).saturating_mul(m.columns as u64);
                one.saturating_mul(m.experts.unwrap_or(1) as u64)
            }
            Self::Biases(m) => (m.rows as u64).saturating_mul(m.experts.unwrap_or(1) as u64),
            Self::Bias(_, length) | Self::Heads(_, length) | Self::Factors(_, length) => {
                *length as u64
            }
            Self::Convolution(c) => (c.channels as u64).saturating_mul(c.width as u64),
            Self::Norm(norm) => norm.width as u64,
        }
    }
}

impl<T> Layer<T> {
    /// The layer's tensors.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_, T>> {
        let mlp = &self.mlp.part;
        let before = std::iter::once(&self.mixer.before);
        let around_mlp = [&self.mlp.before].into_iter().chain(&self.mlp.after);
        let per_layer = self.per_layer.iter();
        let scale = self.scale.iter().map(|scale| Part::Factors(scale, 1));
        let mixer = match &self.mixer.part {
            Mixer::Attention(attention) => attention.parts(),
            Mixer::Delta(delta) => delta.parts(),
        };
        let altup = self.altup.iter().flat_map(AltUp::parts);
        altup
            .chain(before.map(Part::Norm))
            .chain(mixer)
            .chain(self.mixer.after.iter().map(Part::Norm))
            .chain(mlp.linears().into_iter().flat_map(Part::of))
            .chain(mlp.others())
            .chain(around_mlp.map(Part::Norm))
            .chain(per_layer.flat_map(PerLayer::parts))
            .chain(scale)
    }

    /// Its attention, if it has one.
    pub fn attention(&self) -> Option<&Attention<T>> {
        match &self.mixer.part {
            Mixer::Attention(attention) => Some(attention),
            Mixer::Delta(_) => None,
        }
    }

    /// Its gated delta net, if it has one.
    pub fn delta(&self) -> Option<&Delta<T>> {
        match &self.mixer.part {
            Mixer::Attention(_) => None,
            Mixer::Delta(delta) => Some(delta),
        }
    }
}

impl<T> PerLayer<T> {
    fn parts(&self) -> impl Iterator<Item = Part<'_, T>> {
        let linears = [&self.gate, &self.projection].into_iter();
        let norm = std::iter::once(Part::Norm(&self.norm));
        linears.flat_map(Part::of).chain(norm)
    }
}

impl<T> AltUp<T> {
    fn parts(&self) -> Vec<Part<'_, T>> {
        let laurel = &self.laurel;
        let coefficients = [&self.router, &self.prediction, &self.correction];
        let linears = coefficients
            .into_iter()
            .chain([&laurel.left, &laurel.right]);
        let hidden = self.router.columns;
        let scale = self.output_scale.iter();
        linears
            .flat_map(Part::of)
            .chain([&self.router_norm, &laurel.norm].map(Part::Norm))
            .chain(scale.map(|scale| Part::Factors(scale, hidden)))
            .collect()
    }
}

impl<T> Streams<T> {
    /// Its linear maps.
    fn linears(&self) -> impl Iterator<Item = &Linear<T>> {
        self.projections.iter().chain(&self.unprojections)
    }
}

impl<T> PerLayerInputs<T> {
    fn parts(&self) -> impl Iterator<Item = Part<'_, T>> {
        let linears = [&self.embedding.table, &self.projection].into_iter();
        let norm = std::iter::once(Part::Norm(&self.norm));
        linears.flat_map(Part::of).chain(norm)
    }
}

impl<T> Attention<T> {
    fn parts(&self) -> Vec<Part<'_, T>> {
        let head_norms = self.q_norm.iter().chain(&self.k_norm);
        let projections = [&self.q].into_iter().chain(&self.k).chain(&self.v);
        projections
            .flat_map(Part::of)
            .chain(head_norms.map(Part::Norm))
            .chain(self.sinks.iter().map(|s| Part::Heads(s, self.heads)))
            .chain(Part::of(&self.o))
            .collect()
    }
}

impl<T> Delta<T> {
    fn parts(&self) -> Vec<Part<'_, T>> {
        let heads = [&self.decay, &self.step].map(|t| Part::Heads(t, self.value_heads));
        self.inputs
            .linears()
            .into_iter()
            .flat_map(Part::of)
            .chain([Part::Convolution(&self.convolution)])
            .chain(heads)
            .chain([Part::Norm(&self.norm)])
            .chain(Part::of(&self.o))
            .collect()
    }
}

impl<T> DeltaInputs<T> {
    /// Its linear maps.
    pub fn linears(&self) -> Vec<&Linear<T>> {
        match self {
            Self::Apart { qkv, z, b, a } => vec![qkv, z, b, a],
            Self::ByKeyHead { qkvz, ba } => vec![qkvz, ba],
        }
    }
}

impl<T> Mlp<T> {
    /// Its linear maps.
    pub fn linears(&self) -> Vec<&Linear<T>> {
        let gated = self.gated().into_iter().flat_map(Gated::linears);
        let experts = self.experts().into_iter().flat_map(Experts::linears);
        gated.chain(experts).collect()
    }

    /// Its tensors that are no linear maps.
    fn others(&self) -> impl Iterator<Item = Part<'_, T>> {
        let norms = match self {
            Self::Both(both) => {
                let experts = &both.experts;
                let around = [&experts.before].into_iter().chain(&experts.after);
                [&both.after].into_iter().chain(around).collect()
            }
            Self::Gated(_) | Self::Experts(_) => Vec::new(),
        };
        let experts = self.experts().into_iter();
        norms
            .into_iter()
            .map(Part::Norm)
            .chain(experts.flat_map(|experts| {
                let scales = experts.share_scales.iter();
                let scales = scales.map(|scales| Part::Factors(scales, experts.count));
                let norm = experts.router_norm.iter().map(Part::Norm);
                norm.chain(scales)
            }))
    }

    /// The one that all tokens have.
    pub fn gated(&self) -> Option<&Gated<T>> {
        match self {
            Self::Gated(mlp) => Some(mlp),
            Self::Experts(_) => None,
            Self::Both(both) => Some(&both.gated),
        }
    }

    /// Its experts.
    pub fn experts(&self) -> Option<&Experts<T>> {
        match self {
            Self::Gated(_) => None,
            Self::Experts(experts) => Some(experts),
            Self::Both(both) => Some(&both.experts.part),
        }
    }

    /// Whether it is a mixture of experts.
    pub fn is_sparse(&self) -> bool {
        self.experts().is_some()
    }

    /// Features inside: of one expert, and of what all tokens have if that is wider.
    pub fn width(&self) -> usize {
        let gated = self.gated().map_or(0, |mlp| mlp.gate.rows);
        let experts = self.experts().map_or(0, |experts| {
            let shared = experts.shared.as_ref().map_or(0, |s| s.mlp.gate.rows);
            experts.each.gate.rows.max(shared)
        });
        gated.max(experts)
    }

    /// Weights that a token does not use: those of the experts that it has not got.
    fn idle_parameters(&self) -> u64 {
        let Some(experts) = self.experts() else {
            return 0;
        };
        let linears = experts.each.linears().into_iter();
        let all = linears.flat_map(Part::of).map(|part| part.parameters());
        let all = all.fold(0, u64::saturating_add);
        all / experts.count.max(1) as u64 * experts.count.saturating_sub(experts.top) as u64
    }
}

impl<T> Experts<T> {
    /// The router, all experts, and the shared one.
    fn linears(&self) -> impl Iterator<Item = &Linear<T>> {
        let shared = self.shared.iter();
        let shared = shared.flat_map(|s| [&s.gate].into_iter().chain(s.mlp.linears()));
        [&self.router]
            .into_iter()
            .chain(self.each.linears())
            .chain(shared)
    }
}

impl<T> Gated<T> {
    /// Gate, up and down.
    pub fn linears(&self) -> [&Linear<T>; 3] {
        [&self.gate, &self.up, &self.down]
    }
}

impl<T> Model<T> {
    /// Every tensor but those of the head, which may be the embedding.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_, T>> {
        let per_layer = self.per_layer.iter().flat_map(PerLayerInputs::parts);
        let streams = self.streams.iter().flat_map(Streams::linears);
        Part::of(&self.embedding.table)
            .chain(per_layer)
            .chain(streams.flat_map(Part::of))
            .chain(self.layers.iter().flat_map(Layer::parts))
            .chain(std::iter::once(Part::Norm(&self.norm)))
    }

    /// Weights that one token does not use: those of the experts that it has not got, and of the inputs of
    /// layers those of other tokens.
    pub fn idle_parameters(&self) -> u64 {
        let mlps = self.layers.iter().map(|layer| &layer.mlp.part);
        let experts = mlps.map(Mlp::idle_parameters).fold(0, u64::saturating_add);
        let rows = self.per_layer.as_ref().map_or(0, |inputs| {
            let table = &inputs.embedding.table;
            table.rows.saturating_sub(1) as u64 * table.columns as u64
        });
        experts.saturating_add(rows)
    }

    /// Width of the residual stream.
    pub fn hidden_size(&self) -> usize {
        self.embedding.table.columns
    }

    /// Rows of the embedding; ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.embedding.table.rows
    }

    /// Its attentions, in the order of the layers.
    pub fn attentions(&self) -> impl Iterator<Item = &Attention<T>> {
        self.layers.iter().filter_map(Layer::attention)
    }

    /// Bytes that `tokens` tokens take in the states, of numbers of so many bytes.
    pub fn cache_bytes(&self, tokens: u64, number: u64) -> u64 {
        let states = self.states.iter().map(|s| s.bytes(tokens, number));
        states.fold(0, u64::saturating_add)
    }
}

impl State {
    /// Keys and values, if it is that.
    pub fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Keys(keys) => Some(keys),
            Self::Recurrent(_) => None,
        }
    }

    /// Tokens that are kept, the latest ones, where that is a number.
    pub fn window(&self) -> Option<usize> {
        self.keys()?.window
    }

    /// Bytes that `tokens` tokens take, of numbers of so many bytes.
    pub fn bytes(&self, tokens: u64, number: u64) -> u64 {
        match self {
            Self::Keys(keys) => keys.bytes(tokens, number),
            Self::Recurrent(recurrent) => {
                let held = (2 + Recurrent::CHECKPOINTS) as u64;
                recurrent.slot_bytes(number).saturating_mul(held)
            }
        }
    }
}

impl Recurrent {
    /// Earlier states that are kept beside the latest one and the one before it, to go back to.
    pub const CHECKPOINTS: usize = 4;

    /// Bytes of one state, of numbers of so many bytes in the convolution's part.
    pub fn slot_bytes(&self, number: u64) -> u64 {
        let product = |factors: &[usize], bytes: u64| {
            let factors = factors.iter().map(|&n| n as u64);
            factors.fold(bytes, u64::saturating_mul)
        };
        let tail = product(&[self.channels, self.tail], number);
        let matrices = product(&[self.heads, self.key_dim, self.value_dim], 4);
        tail.saturating_add(matrices)
    }
}

impl Keys {
    /// Bytes that `tokens` tokens take, of numbers of so many bytes.
    pub fn bytes(&self, tokens: u64, number: u64) -> u64 {
        let kept = self
            .window
            .map_or(tokens, |window| tokens.min(window as u64));
        // Who asks may mean any number of tokens.
        let numbers = [2, self.heads as u64, self.head_dim as u64, number];
        numbers.into_iter().fold(kept, u64::saturating_mul)
    }
}
