//! Many tokens at once (arXiv:2406.06484): inside a chunk all changes of the state are found together, by one
//! triangular system, and the state is handed from chunk to chunk.
//!
//! With `G` the running sum of a chunk's `g`, `D[i, j] = exp(G[i] - G[j])` for `j <= i`, and
//! `A = (b k kᵀ) D` below the diagonal, the changes are `U - W S` of the state `S` in front of the chunk, where
//! `(1 + A) U = b v` and `(1 + A) W = b exp(G) k`. All of it but `S` is made for all chunks together.

use mlx_core::{Array, Dtype, Result, ops};

use super::graph::{Delta, Deltas};

/// Positions of a chunk.
pub(crate) const LENGTH: i32 = 64;

/// Axes of what is made for all chunks: heads of keys, heads that share one, chunks, and positions of a chunk twice.
const CHUNKS: i32 = 2;

/// L tokens on `state [key_heads, shared, key_dim, value_dim]`.
pub(super) fn run(deltas: &Deltas, state: &Array) -> Result<Delta> {
    let &[key_heads, shared, key_dim, value_dim] = state.shape() else {
        return Err(mlx_core::Error::Native("a state has four axes".to_owned()));
    };
    let length = deltas.keys.dim(0);
    // Tokens that change nothing and are not read fill the first chunk and the last.
    let before = deltas.position.rem_euclid(LENGTH);
    let chunks = (before + length + LENGTH - 1) / LENGTH;
    let behind = chunks * LENGTH - before - length;
    let chunked = |x: &Array, shared: i32, width: i32| -> Result<Array> {
        let x = padded(
            &x.reshape(&[length, key_heads * shared * width])?,
            before,
            behind,
        )?;
        let x = x.reshape(&[chunks, LENGTH, key_heads, shared, width])?;
        x.transpose(&[2, 3, 0, 1, 4])
    };
    let (queries, keys) = (
        chunked(&deltas.queries, 1, key_dim)?,
        chunked(&deltas.keys, 1, key_dim)?,
    );
    let values = chunked(&deltas.values, shared, value_dim)?;
    let learned = chunked(&deltas.learned, shared, 1)?;
    let sums = ops::cumsum(&chunked(&deltas.kept, shared, 1)?, -2, false, true)?;

    let between = ops::sub(&sums, &sums.swap_axes(-1, -2)?)?;
    let hidden = Array::scalar(f32::NEG_INFINITY)?;
    let kept = ops::exp(&ops::where_(&seen()?, &between, &hidden)?)?;
    let keys_turned = keys.swap_axes(-1, -2)?;
    let alike = ops::mul(&ops::matmul(&keys, &keys_turned)?, &kept)?;
    let inverse = inverse(&ops::mul(&alike, &learned)?)?;
    let scores = ops::mul(&ops::matmul(&queries, &keys_turned)?, &kept)?;
    let since = ops::exp(&sums)?;
    let writes = ops::matmul(&inverse, &ops::mul(&values, &learned)?)?;
    let unlearned = ops::mul(&keys, &ops::mul(&learned, &since)?)?;
    let unlearned = ops::matmul(&inverse, &unlearned)?;
    let queries = ops::mul(&queries, &since)?;
    let whole = sums.slice(
        &[0, 0, 0, LENGTH - 1, 0],
        &[key_heads, shared, chunks, LENGTH, 1],
    )?;
    let until = ops::exp(&ops::sub(&whole, &sums)?)?;
    let keys_turned = ops::mul(&keys, &until)?.swap_axes(-1, -2)?;
    let whole = ops::exp(&whole)?;

    let mut state = state.clone();
    let mut aligned = None;
    // Whole chunks.
    let whole_ones = (before + length) / LENGTH;
    let mut reads = Vec::with_capacity(chunks as usize);
    for chunk in 0..chunks {
        let of = |all: &Array| at(all, chunk);
        let change = ops::sub(&of(&writes)?, &ops::matmul(&of(&unlearned)?, &state)?)?;
        let earlier = ops::matmul(&of(&queries)?, &state)?;
        reads.push(ops::add(&earlier, &ops::matmul(&of(&scores)?, &change)?)?);
        let learned = ops::matmul(&of(&keys_turned)?, &change)?;
        state = ops::add(&ops::mul(&state, &of(&whole)?)?, &learned)?;
        if chunk + 1 == whole_ones {
            aligned = Some(((chunk + 1) * LENGTH - before, state.clone()));
        }
    }
    let reads = ops::stack(&reads.iter().collect::<Vec<_>>(), 0)?;
    // From chunks, key heads, heads that share one, positions.
    let reads = reads.transpose(&[0, 3, 1, 2, 4])?;
    let reads = reads.reshape(&[chunks * LENGTH, key_heads * shared, value_dim])?;
    let end = before + length;
    Ok(Delta {
        read: reads.slice(&[before, 0, 0], &[end, key_heads * shared, value_dim])?,
        state,
        aligned,
    })
}

/// `x [L, width]` with so many rows of zeros around it.
fn padded(x: &Array, before: i32, behind: i32) -> Result<Array> {
    let zeros = |rows: i32| match rows {
        0 => Ok(None),
        _ => Array::zeros(&[rows, x.dim(1)], x.dtype()).map(Some),
    };
    let (before, behind) = (zeros(before)?, zeros(behind)?);
    let parts: Vec<&Array> = before.iter().chain([x]).chain(&behind).collect();
    match parts[..] {
        [x] => Ok(x.clone()),
        _ => ops::concatenate(&parts, 0),
    }
}

/// One chunk of all.
fn at(all: &Array, chunk: i32) -> Result<Array> {
    let (mut start, mut stop) = ([0; 5], [0; 5]);
    stop.copy_from_slice(all.shape());
    (start[CHUNKS as usize], stop[CHUNKS as usize]) = (chunk, chunk + 1);
    all.slice(&start, &stop)?.squeeze(CHUNKS)
}

/// `1 / (1 + A)` where `A` is `below` the diagonal, of `below [.., LENGTH, LENGTH]`: by blocks that double,
/// `[[P, 0], [C, Q]]` having the inverse `[[1/P, 0], [-1/Q C 1/P, 1/Q]]`. A series of powers would have as few
/// steps, but its terms become large where keys are alike, and take each other away.
fn inverse(below: &Array) -> Result<Array> {
    let mut inverse = mask(|row, column| row == column)?;
    for size in [1, 2, 4, 8, 16, 32] {
        let corner = mask(|row, column| {
            row / size == column / size + 1 && row / (2 * size) == column / (2 * size)
        })?;
        let corner = ops::mul(below, &corner)?;
        let change = match size {
            // The blocks so far are ones.
            1 => corner,
            _ => ops::matmul(&ops::matmul(&inverse, &corner)?, &inverse)?,
        };
        inverse = ops::sub(&inverse, &change)?;
    }
    Ok(inverse)
}

/// Whether the row, a position, sees the column.
fn seen() -> Result<Array> {
    let ones = mask(|row, column| row >= column)?;
    ops::greater(&ones, &Array::scalar(0.5f32)?)
}

/// Ones and zeros, float32 `[LENGTH, LENGTH]`.
fn mask(is: impl Fn(i32, i32) -> bool) -> Result<Array> {
    let rows = (0..LENGTH).flat_map(|row| (0..LENGTH).map(move |column| (row, column)));
    let numbers: Vec<f32> = rows
        .map(|(row, column)| f32::from(is(row, column)))
        .collect();
    debug_assert_eq!(numbers.len(), (LENGTH * LENGTH) as usize);
    Array::from_slice(&numbers, &[LENGTH, LENGTH])?.cast(Dtype::Float32)
}
