//! What a model is made of, as data.
//!
//! `T` stands for a tensor: as a configuration describes a model it is the tensor's name, without the
//! prefix that checkpoints put before it; loaded, an array. Of a matrix it is the path that its parts share
//! (`layers.0.mlp.up_proj`), since how the matrix is stored says what parts it has; of a vector the whole
//! name (`layers.0.input_layernorm.weight`).

/// A transformer of one stack: a decoder, or an encoder where it is bidirectional.
#[derive(Clone, Debug, PartialEq)]
pub struct Model<T> {
    /// From token ids to the residual stream.
    pub embedding: Embedding<T>,
    /// What each layer has of a token beside the residual stream.
    pub per_layer: Option<PerLayerInputs<T>>,
    /// What makes several residual streams of an embedding, and one of them in the end.
    pub streams: Option<Streams<T>>,
    /// In order.
    pub layers: Vec<Layer<T>>,
    /// Of the residual stream behind the last layer.
    pub norm: Norm<T>,
    /// From the residual stream to logits; whether a checkpoint has it, or the embedding serves, the
    /// checkpoint says.
    pub head: Linear<T>,
    /// Logits are squashed to this range by tanh.
    pub softcap: Option<f64>,
    /// The rotations that layers name.
    pub ropes: Vec<crate::Rope>,
    /// The states that layers name.
    pub states: Vec<State>,
    /// Whether positions see those behind them too: an encoder, which reads a text whole and writes none.
    pub bidirectional: bool,
}

/// The token embedding: one row a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding<T> {
    /// `[vocabulary, hidden]`.
    pub table: Linear<T>,
    /// What its rows are multiplied by, once rounded to the dtype of the activations.
    pub scale: Option<f64>,
}

/// An input of each layer for each token, `scale * (embedding + norm(projection))`: of `width` features for
/// each layer, one layer's behind the other's.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayerInputs<T> {
    /// `[vocabulary, layers * width]`: of a table this large a pass reads rows and nothing else.
    pub embedding: Embedding<T>,
    /// Of the scaled token embedding: `[layers * width, hidden]`.
    pub projection: Linear<T>,
    /// What the projection is multiplied by.
    pub projection_scale: f64,
    /// Of each layer's part of that.
    pub norm: Norm<T>,
    /// What the sum is multiplied by.
    pub scale: f64,
    /// Features of a layer.
    pub width: usize,
}

/// The ends of several residual streams (Gemma 3n). The first one begins as the embedding, each other one as a
/// projection of it; in the end each other one is projected again, and they are averaged. A projection is given
/// the root mean square that the first stream has, whatever its own is.
#[derive(Clone, Debug, PartialEq)]
pub struct Streams<T> {
    /// Of the embedding: for each other stream `[hidden, hidden]`.
    pub projections: Vec<Linear<T>>,
    /// Of each other stream in the end: `[hidden, hidden]`.
    pub unprojections: Vec<Linear<T>>,
    /// The least mean square that a projection counts for.
    pub least: f64,
}

/// Two parts, each added to the residual stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer<T> {
    /// What turns several residual streams into the one that the layer sees, and back.
    pub altup: Option<AltUp<T>>,
    /// What mixes positions.
    pub mixer: Sub<T, Mixer<T>>,
    /// What does not.
    pub mlp: Sub<T, Mlp<T>>,
    /// What is added behind both of the layer's own input.
    pub per_layer: Option<PerLayer<T>>,
    /// `[1]`: what the residual stream is multiplied by in the end.
    pub scale: Option<T>,
}

/// Alternating updates (arXiv:2301.13310): of several residual streams a layer computes one, and what it does to
/// that is what the others are corrected by.
///
/// With `m(x) = tanh(scale * router(norm(x)))`, a number for each stream: the prediction of stream `j` is
/// `x_j + sum_k p_jk x_k`, with `p = prediction m(x_a)`, where `a` is the active stream. The layer makes `y` of the
/// active prediction, and a stream becomes its prediction and `1 + c_j` times what `y` has more than the active
/// prediction, with `c = correction m(y)`. What the layer adds of its own input is computed of the active stream,
/// and added to all but the first.
#[derive(Clone, Debug, PartialEq)]
pub struct AltUp<T> {
    /// Streams.
    pub streams: usize,
    /// The one that the layer computes.
    pub active: usize,
    /// Of what the router sees.
    pub router_norm: Norm<T>,
    /// `[streams, hidden]`.
    pub router: Linear<T>,
    /// What the router's outputs are multiplied by.
    pub router_scale: f64,
    /// `[streams * streams, streams]`: row `j * streams + k` is for the part that stream `k` has in the
    /// prediction of stream `j`.
    pub prediction: Linear<T>,
    /// `[streams, streams]`.
    pub correction: Linear<T>,
    /// `[hidden]`: what the active stream is multiplied by on its way to the layer's own input.
    pub output_scale: Option<T>,
    /// What stands beside the mixer.
    pub laurel: Laurel<T>,
}

/// A learned augmented residual layer (arXiv:2411.07501): of what the mixer sees, `n`, a layer adds also
/// `n + norm(right(left(n)))`, and divides the sum of both by the root of two.
#[derive(Clone, Debug, PartialEq)]
pub struct Laurel<T> {
    /// `[rank, hidden]`.
    pub left: Linear<T>,
    /// `[hidden, rank]`.
    pub right: Linear<T>,
    /// Of what these make.
    pub norm: Norm<T>,
}

/// What a layer adds of its own input: `norm(projection(activation(gate(x)) * input))`.
#[derive(Clone, Debug, PartialEq)]
pub struct PerLayer<T> {
    /// `[width, hidden]`.
    pub gate: Linear<T>,
    /// Of the gate.
    pub activation: Activation,
    /// `[hidden, width]`.
    pub projection: Linear<T>,
    /// Of what is added.
    pub norm: Norm<T>,
}

/// A part of a layer with the norms around it: `x + after(part(before(x)))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sub<T, P> {
    /// Of what the part sees.
    pub before: Norm<T>,
    /// The part.
    pub part: P,
    /// Of what it gives, before that is added.
    pub after: Option<Norm<T>>,
}

/// The part of a layer that mixes positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer<T> {
    /// Every position sees those before it, or in a bidirectional model all.
    Attention(Attention<T>),
    /// Every position sees a state that those before it have written.
    Delta(Delta<T>),
}

/// Grouped-query attention, under a causal mask unless the model is bidirectional.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention<T> {
    /// Queries: `[heads * head_dim, hidden]`; with gates twice as many rows, behind each head's query its gate.
    pub q: Linear<T>,
    /// Keys: `[kv_heads * head_dim, hidden]`. Absent where the layer reads the state that a layer before it
    /// writes, and adds nothing to it.
    pub k: Option<Linear<T>>,
    /// Values: `[kv_heads * head_dim, hidden]`. Absent where they are the keys before norm and rotation.
    pub v: Option<Linear<T>>,
    /// Of the heads' outputs: `[hidden, heads * head_dim]`.
    pub o: Linear<T>,
    /// Of each query.
    pub q_norm: Option<Norm<T>>,
    /// How many of the first features of a query are multiplied by what behind its norm, which then is one.
    pub q_factor: Option<(usize, f64)>,
    /// Of each key.
    pub k_norm: Option<Norm<T>>,
    /// Epsilon of a norm of each value, which has no weight.
    pub v_norm: Option<f32>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even, and at most 65536.
    pub head_dim: usize,
    /// `[heads]`: a score of each head that joins those of its keys, and whose weight is given to no value.
    pub sinks: Option<T>,
    /// Which of the model's rotations turns queries and keys.
    pub rope: usize,
    /// What queries times keys are multiplied by.
    pub scale: f64,
    /// Scores are squashed to this range by tanh, before the mask.
    pub softcap: Option<f64>,
    /// Whether what a head gives is multiplied by the sigmoid of its gate.
    pub gated: bool,
    /// Which of the model's states has the keys and values.
    pub state: usize,
}

/// A gated delta net (arXiv:2412.06464): a linear attention whose state forgets by a gate, and unlearns what a key
/// had before it learns what it is to have.
///
/// For each value head, with the key head that it shares: `S = exp(g) S`, `S += k (b (v - S k))`, out `S q`; where
/// `g = -exp(decay) * softplus(a + step)` and `b` is a sigmoid. Queries and keys are of length one, queries then
/// multiplied by the root of `1 / key_dim`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta<T> {
    /// Of what the layer sees.
    pub inputs: DeltaInputs<T>,
    /// Of queries, keys and values in this order, each channel by itself, then SiLU.
    pub convolution: Convolution<T>,
    /// Logarithms of how fast heads forget, `[value_heads]`.
    pub decay: T,
    /// Added to what forgetting is gated by, `[value_heads]`.
    pub step: T,
    /// Of what a head gives, which then is multiplied by SiLU of `z`.
    pub norm: Norm<T>,
    /// `[hidden, value_heads * value_dim]`.
    pub o: Linear<T>,
    /// Heads of queries and of keys.
    pub key_heads: usize,
    /// Heads of values, a multiple of that.
    pub value_heads: usize,
    /// Width of a query, and of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Which of the model's states it is.
    pub state: usize,
}

/// The linear maps in front of a gated delta net.
#[derive(Clone, Debug, PartialEq)]
pub enum DeltaInputs<T> {
    /// Each by itself.
    Apart {
        /// Queries, keys and values: `[2 * key_heads * key_dim + value_heads * value_dim, hidden]`.
        qkv: Linear<T>,
        /// What gates the output: `[value_heads * value_dim, hidden]`.
        z: Linear<T>,
        /// What gates learning: `[value_heads, hidden]`.
        b: Linear<T>,
        /// What gates forgetting: `[value_heads, hidden]`.
        a: Linear<T>,
    },
    /// The rows of each key head together: its query, its key, its values, their `z`; and its `b`, its `a`.
    ByKeyHead {
        /// `[2 * key_heads * key_dim + 2 * value_heads * value_dim, hidden]`.
        qkvz: Linear<T>,
        /// `[2 * value_heads, hidden]`.
        ba: Linear<T>,
    },
}

/// A causal convolution over positions, of each channel by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution<T> {
    /// `[channels, 1, width]` as PyTorch has it, or `[channels, width, 1]` as MLX has it.
    pub weight: T,
    /// Channels.
    pub channels: usize,
    /// Positions that one sees, itself the last.
    pub width: usize,
}

/// The part of a layer that does not mix positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mlp<T> {
    /// One for all tokens.
    Gated(Gated<T>),
    /// Many, of which each token has a few.
    Experts(Experts<T>),
    /// One for all tokens, and many.
    Both(Both<T>),
}

/// `after(gated(x)) + experts.after(experts(experts.before(h)))`, where `h` is the residual stream, and `x` its
/// norm that all of a layer's parts have before them.
#[derive(Clone, Debug, PartialEq)]
pub struct Both<T> {
    /// One for all tokens.
    pub gated: Gated<T>,
    /// Of what it gives.
    pub after: Norm<T>,
    /// Many, with norms of their own. Their router sees the residual stream through its own norm.
    pub experts: Sub<T, Experts<T>>,
}

/// A mixture of experts: the sum over the `top` experts that the router finds likeliest for a token,
/// each times its share.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts<T> {
    /// From a token to a logit for each expert, `[count, hidden]`; their softmax, in float32 over all of
    /// them, is the shares.
    pub router: Linear<T>,
    /// The router sees the residual stream through this norm, where it does not see what the experts see.
    pub router_norm: Option<Norm<T>>,
    /// What the logits are multiplied by.
    pub router_scale: f64,
    /// How many there are.
    pub count: usize,
    /// How many a token has: from 1 to `count`.
    pub top: usize,
    /// Whether the shares of those are divided by their sum.
    pub renormalised: bool,
    /// `[count]`: what the share of each is multiplied by in the end.
    pub share_scales: Option<T>,
    /// The experts: each of its matrices is a stack of as many as there are.
    pub each: Gated<T>,
    /// An expert that every token has as well.
    pub shared: Option<Shared<T>>,
}

/// `sigmoid(gate(x)) * mlp(x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shared<T> {
    /// `[1, hidden]`.
    pub gate: Linear<T>,
    /// The expert.
    pub mlp: Gated<T>,
}

/// `down(activation(gate(x)) * up(x))`, but where the activation says what becomes of `up`; where a gate is cut,
/// `cut(gate(x))` in place of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gated<T> {
    /// `[intermediate, hidden]`.
    pub gate: Linear<T>,
    /// `[intermediate, hidden]`.
    pub up: Linear<T>,
    /// `[hidden, intermediate]`.
    pub down: Linear<T>,
    /// Of the gate.
    pub activation: Activation,
    /// Of a token's gate only what is above its mean by more than so many times its standard deviation counts, and
    /// by how much it is.
    pub cut: Option<f64>,
}

/// The function of a gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The approximation of GELU by tanh.
    GeluTanh,
    /// `x * sigmoid(alpha * x)` of a gate that is at most `limit`, times one more than `up`, which is held between
    /// `-limit` and `limit` (gpt-oss).
    Clamped {
        /// Of gate and up.
        limit: f64,
        /// Of the sigmoid.
        alpha: f64,
    },
}

/// A matrix, stored in floats or packed, and perhaps a bias; or a stack of matrices of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear<T> {
    /// `[rows, columns]`. Of a stack the path names the matrix as if experts had no number:
    /// `layers.0.mlp.experts.gate_proj` ([`stacks`](crate::stacks)).
    pub weight: T,
    /// `[rows]`, of a stack `[experts, rows]`.
    pub bias: Option<T>,
    /// Features that come out.
    pub rows: usize,
    /// Features that go in.
    pub columns: usize,
    /// How many matrices there are, if this is a stack.
    pub experts: Option<usize>,
    /// Of a stack, whether files that are not mlx-lm's have gate and up by turns in one tensor, and columns of floats
    /// before rows (gpt-oss).
    pub by_turns: bool,
}

/// Root-mean-square normalization (arXiv:1910.07467).
#[derive(Clone, Debug, PartialEq)]
pub struct Norm<T> {
    /// `[width]`.
    pub weight: T,
    /// Features.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
    /// Whether the weight is stored less one.
    pub centered: bool,
}

/// What a layer remembers of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Something of each token.
    Keys(Keys),
    /// As much of any number of tokens.
    Recurrent(Recurrent),
}

/// Keys and values of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Heads of each.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens that are kept, the latest ones; all if `None`. In a bidirectional model a position sees those that
    /// are less than this far away, on either side.
    pub window: Option<usize>,
}

/// What a gated delta net remembers: the inputs of its convolution that the next token sees, and a matrix for
/// each head in float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrent {
    /// Channels of the convolution.
    pub channels: usize,
    /// Tokens before the next one that it sees.
    pub tail: usize,
    /// Matrices.
    pub heads: usize,
    /// Rows of a matrix: features of a key.
    pub key_dim: usize,
    /// Columns of a matrix: features of a value.
    pub value_dim: usize,
}
