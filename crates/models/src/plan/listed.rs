//! Whether a token is one launch that goes through a list of steps: `kernels::steps` says so of arrays, and this of a
//! model that has not been loaded.

use arch::{Attention, Delta, Gated, Layer, Linear, Mixer, Model};
use mlx_core::Dtype;

use super::{STREAMS, Storage, unread};

/// The widest residual stream: a thread of a block has sixteen of it.
const WIDEST: usize = 8192;

/// The most experts of a token.
const MOST_EXPERTS: usize = 32;

/// Why it is not.
pub(super) fn unlisted(model: &Model<String>, storage: &Storage, dtype: Dtype) -> Option<String> {
    if !matches!(dtype, Dtype::Bfloat16 | Dtype::Float32) {
        return Some(format!("activations are {dtype}"));
    }
    let ends = [&storage.embedding, &storage.head];
    let all = || storage.layers.iter().chain(ends);
    if let Some(why) = unread(all()) {
        return Some(why);
    }
    if model.streams.is_some() {
        return Some(STREAMS.to_owned());
    }
    let layers = model.layers.iter();
    let of_layers = layers.filter_map(of_layer).next();
    of_layers.map(str::to_owned).or_else(|| {
        let hidden = model.hidden_size();
        // Lanes read sixteen bytes at once. What is packed has whole groups of 32 columns at the least.
        let each = 16 / dtype.size();
        let odd = matrices(model).find(|matrix| !matrix.columns.is_multiple_of(each));
        match odd {
            _ if hidden > WIDEST => Some(format!("the residual stream is {hidden} wide")),
            Some(odd) => Some(format!("a matrix has {} columns", odd.columns)),
            None => None,
        }
    })
}

/// What no step does of a layer.
fn of_layer(layer: &Layer<String>) -> Option<&'static str> {
    let mixer = match &layer.mixer.part {
        Mixer::Attention(attention) => of_attention(attention),
        Mixer::Delta(delta) => of_net(delta),
    };
    let mlp = &layer.mlp.part;
    let cut = |gated: &Gated<String>| gated.cut.is_some();
    if mixer.is_some() {
        mixer
    } else if layer.altup.is_some() {
        Some(STREAMS)
    } else if mlp.gated().is_some_and(cut) {
        Some("gates are cut off")
    } else if mlp
        .experts()
        .is_some_and(|experts| !(1..=MOST_EXPERTS).contains(&experts.top))
    {
        Some("a token has more than 32 experts")
    } else {
        None
    }
}

fn of_attention(attention: &Attention<String>) -> Option<&'static str> {
    let heads_fit = matches!(attention.head_dim, 16 | 32 | 64 | 128 | 256 | 512);
    let fits = heads_fit && attention.heads.is_multiple_of(attention.kv_heads);
    (!fits).then_some("heads have another size than a power of two from 16 to 512")
}

fn of_net(delta: &Delta<String>) -> Option<&'static str> {
    let fits = |dim: usize| dim.is_multiple_of(4) && (1..=128).contains(&dim);
    let sizes = fits(delta.key_dim) && fits(delta.value_dim) && delta.convolution.width > 1;
    let fits = sizes && delta.value_heads.is_multiple_of(delta.key_heads);
    (!fits)
        .then_some("gated delta nets have keys or values that are no multiple of 4 up to 128 wide")
}

/// The matrices of layers.
fn matrices(model: &Model<String>) -> impl Iterator<Item = &Linear<String>> {
    model.layers.iter().flat_map(|layer| {
        let mixer: Vec<&Linear<String>> = match &layer.mixer.part {
            Mixer::Attention(a) => [&a.q, &a.o].into_iter().chain(&a.k).chain(&a.v).collect(),
            Mixer::Delta(delta) => [delta.inputs.linears(), vec![&delta.o]].concat(),
        };
        mixer.into_iter().chain(layer.mlp.part.linears())
    })
}
