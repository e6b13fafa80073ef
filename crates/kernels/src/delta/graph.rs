//! The gated delta rule on arrays.

use mlx_core::{Array, Result, ops};

use super::chunks;

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
