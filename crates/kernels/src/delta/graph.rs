//! The gated delta rule on arrays.

use mlx_core::{Array, Result, ops};

use super::net::Sizes;
use super::{chunks, cuda};
use crate::columns::Columns;
use crate::rms_norm::norm::Norm;

/// What comes of L rows before a net mixes them.
pub enum Entered<'a> {
    /// Queries, keys and values; `z`; `b`; `a`.
    Apart([&'a Columns; 4]),
    /// All of the former two and of the latter two, each key head's together.
    ByKeyHead([&'a Columns; 2]),
}

impl<'a> Entered<'a> {
    /// Where queries, keys and values are, and `z`, `b` and `a`.
    pub(super) fn parts(&self) -> [&'a Columns; 4] {
        match *self {
            Self::Apart(parts) => parts,
            Self::ByKeyHead([qkvz, ba]) => [qkvz, qkvz, ba, ba],
        }
    }

    pub(super) fn is_by_key_head(&self) -> bool {
        matches!(self, Self::ByKeyHead(_))
    }
}

/// What a net computes with between its linear maps; all in float32.
pub struct Net<'a> {
    /// `[width, channels]`: the position itself last.
    pub filter: &'a Array,
    /// `-exp(decay)` of each head.
    pub decay: &'a Array,
    /// What is added to `a` of each head.
    pub step: &'a Array,
    /// Of what a head reads.
    pub norm: Norm<'a>,
    /// Its sizes.
    pub sizes: Sizes,
}

impl Net<'_> {
    /// Shapes of a tail and of matrices.
    pub(super) fn shapes(&self) -> [Vec<i32>; 2] {
        let s = &self.sizes;
        let shape = |axes: &[usize]| axes.iter().map(|&n| n as i32).collect();
        [
            shape(&[s.tail(), s.channels()]),
            shape(&[s.heads, s.key_dim, s.value_dim]),
        ]
    }

    /// Whether everything has the sizes of the net.
    fn fits(&self, entered: &Entered<'_>, before: Option<&Remembered>) -> bool {
        let s = &self.sizes;
        let (channels, values) = (s.channels() as i32, (s.heads * s.value_dim) as i32);
        let (heads, width) = (s.heads as i32, s.width as i32);
        let float = |array: &Array, shape: &[i32]| {
            array.dtype() == mlx_core::Dtype::Float32 && array.shape() == shape
        };
        let widths = match entered {
            Entered::Apart(_) => [channels, values, heads, heads],
            Entered::ByKeyHead(_) => [channels + values, channels + values, 2 * heads, 2 * heads],
        };
        let parts = entered.parts();
        let [tail, matrices] = self.shapes();
        float(self.filter, &[width, channels])
            && float(self.decay, &[heads])
            && float(self.step, &[heads])
            && float(self.norm.weight, &[s.value_dim as i32])
            && parts
                .iter()
                .zip(widths)
                .all(|(part, width)| part.width() == width)
            && before
                .is_none_or(|state| state.tail.shape() == tail && float(&state.matrices, &matrices))
    }
}

/// What a sequence remembers.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// What the convolution will see, `[width - 1, channels]`.
    pub tail: Array,
    /// Float32 `[heads, key_dim, value_dim]`.
    pub matrices: Array,
}

/// What comes of rows.
pub struct Made {
    /// `[L, heads * value_dim]`.
    pub out: Array,
    /// The state behind them.
    pub latest: Remembered,
    /// As [`Delta::aligned`].
    pub aligned: Option<(i32, Remembered)>,
}

/// Rows through a net, the first of which is at `position`, behind the state `before`: convolution, norms, the rule
/// and the gated norm. `None` where there is no such kernel; the caller has [`gated_delta`].
pub fn delta_net(
    entered: &Entered<'_>,
    net: &Net<'_>,
    before: Option<&Remembered>,
    position: i32,
) -> Result<Option<Made>> {
    match net.fits(entered, before) {
        true => cuda::delta_net(entered, net, before, position),
        false => Ok(None),
    }
}

/// What L tokens bring, all in float32.
pub struct Deltas {
    /// `[L, key_heads, key_dim]`.
    pub queries: Array,
    /// As the queries; of a length of at most one, or the rule is none that forgets.
    pub keys: Array,
    /// `[L, heads, value_dim]`: as many heads for each of the keys'.
    pub values: Array,
    /// Logarithms of what is kept, not above zero: `[L, heads]`.
    pub kept: Array,
    /// How much is learned: `[L, heads]`.
    pub learned: Array,
    /// The position of the first token. Chunks end at multiples of 64 positions, so the order of
    /// a sum does not depend on how a prompt is cut at such multiples.
    pub position: i32,
}

/// What comes of them.
pub struct Delta {
    /// `[L, heads, value_dim]`.
    pub read: Array,
    /// The state behind the last token: `[heads, key_dim, value_dim]`.
    pub state: Array,
    /// Of several tokens, how many lie before the last position that is a multiple of a chunk's length, and the state
    /// behind those, where there are any.
    pub aligned: Option<(i32, Array)>,
}

/// Runs the rule on `state [heads, key_dim, value_dim]`, or an empty one. Shapes are the caller's to vouch for.
pub fn gated_delta(deltas: &Deltas, state: Option<&Array>) -> Result<Delta> {
    let [length, key_heads, key_dim] = [0, 1, 2].map(|axis| deltas.keys.dim(axis));
    let [heads, value_dim] = [1, 2].map(|axis| deltas.values.dim(axis));
    let shape = [heads, key_dim, value_dim];
    let state = match state {
        Some(state) => state.clone(),
        None => Array::zeros(&shape, mlx_core::Dtype::Float32)?,
    };
    // Heads that share a key are one axis.
    let state = state.reshape(&[key_heads, heads / key_heads.max(1), key_dim, value_dim])?;
    let made = match length {
        1 => one(deltas, &state)?,
        _ => chunks::run(deltas, &state)?,
    };
    let whole = |state: &Array| state.reshape(&shape);
    Ok(Delta {
        read: made.read,
        state: whole(&made.state)?,
        aligned: match made.aligned {
            Some((tokens, state)) => Some((tokens, whole(&state)?)),
            None => None,
        },
    })
}

/// One token, `state [key_heads, shared, key_dim, value_dim]`.
fn one(deltas: &Deltas, state: &Array) -> Result<Delta> {
    let &[key_heads, shared, key_dim, value_dim] = state.shape() else {
        return Err(mlx_core::Error::Native("a state has four axes".to_owned()));
    };
    let key = deltas.keys.reshape(&[key_heads, 1, 1, key_dim])?;
    let query = deltas.queries.reshape(&[key_heads, 1, 1, key_dim])?;
    let value = deltas.values.reshape(&[key_heads, shared, 1, value_dim])?;
    let by_head = |x: &Array| x.reshape(&[key_heads, shared, 1, 1]);
    let kept = ops::exp(&by_head(&deltas.kept)?)?;
    let state = ops::mul(state, &kept)?;
    let change = ops::sub(&value, &ops::matmul(&key, &state)?)?;
    let change = ops::mul(&change, &by_head(&deltas.learned)?)?;
    let column = key.reshape(&[key_heads, 1, key_dim, 1])?;
    let state = ops::add(&state, &ops::mul(&column, &change)?)?;
    let read = ops::matmul(&query, &state)?;
    Ok(Delta {
        read: read.reshape(&[1, key_heads * shared, value_dim])?,
        state,
        aligned: None,
    })
}
