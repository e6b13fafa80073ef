//! The rule for some columns of one head's state, token after token.
//!
//! A column of the state depends on no other, so as many as fit into the first-level cache meet all tokens before
//! the next ones are loaded. What a token writes and what the next one reads are one sweep: each number of the state
//! is loaded once a token, for four operations. (The products of the chunked form are about as many operations on
//! float32, and its sums depend on where chunks end; these do not, so a prompt has the bits of its tokens one by
//! one.)

use crate::isa::Simd;

/// What tokens of one head bring, in float32.
pub(super) struct Brought<'a> {
    /// `[L, key_stride]`.
    pub(super) keys: *const f32,
    /// `[L, key_stride]`.
    pub(super) queries: *const f32,
    /// Floats from one key to the next.
    pub(super) key_stride: usize,
    /// `[L, value_stride]`.
    pub(super) values: *const f32,
    /// Floats from one value to the next.
    pub(super) value_stride: usize,
    /// Of each token what is kept of the state, how much is learned, and its key times its query.
    pub(super) kept: &'a [f32],
    pub(super) learned: &'a [f32],
    pub(super) alike: &'a [f32],
}

/// What a token's key and its query find in each column of a state.
struct Found<S: Simd, const V: usize> {
    by_key: [S::V; V],
    by_query: [S::V; V],
}

/// All tokens of `brought` on `V` vectors of columns, from `column` on: `state [key_dim, V * LANES]`, and what they
/// read, into `reads [L, value_stride]`.
///
/// With `s` the state in front of a token, `d = b (v - exp(g) sᵀk)` is what it changes, and
/// `y = exp(g) sᵀq + (k q) d` what it reads behind that.
///
/// # Safety
/// [`Simd`]'s contract; the pointers lead to so many floats, and those of `state` and `reads` are this thread's.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, const V: usize>(
    state: *mut f32,
    key_dim: usize,
    brought: &Brought<'_>,
    column: usize,
    reads: *mut f32,
) {
    let count = brought.kept.len();
    // SAFETY: by this function's own contract.
    unsafe {
        let mut found = find::<S, V>(state, key_dim, brought.keys, brought.queries);
        for token in 0..count {
            let kept = S::splat(brought.kept[token]);
            let learned = S::splat(brought.learned[token]);
            let alike = S::splat(brought.alike[token]);
            let at = token * brought.value_stride + column;
            let mut change = [S::zero(); V];
            for j in 0..V {
                let value = S::load_f32(brought.values.add(at + j * S::LANES));
                let known = S::mul(kept, found.by_key[j]);
                change[j] = S::mul(learned, S::sub(value, known));
                let read = S::mul_add(alike, change[j], S::mul(kept, found.by_query[j]));
                S::store_f32(reads.add(at + j * S::LANES), read);
            }
            let key = brought.keys.add(token * brought.key_stride);
            if token + 1 < count {
                let next_query = brought.queries.add((token + 1) * brought.key_stride);
                let next = [key.add(brought.key_stride), next_query];
                found = learn_and_find::<S, V>(state, key_dim, kept, key, change, next);
            } else {
                learn::<S, V>(state, key_dim, kept, key, change);
            }
        }
    }
}

/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn find<S: Simd, const V: usize>(
    state: *const f32,
    key_dim: usize,
    key: *const f32,
    query: *const f32,
) -> Found<S, V> {
    // SAFETY: by this function's own contract.
    unsafe {
        let (mut by_key, mut by_query) = ([S::zero(); V], [S::zero(); V]);
        for i in 0..key_dim {
            let (k, q) = (S::splat(*key.add(i)), S::splat(*query.add(i)));
            for j in 0..V {
                let s = S::load_f32(state.add((i * V + j) * S::LANES));
                by_key[j] = S::mul_add(s, k, by_key[j]);
                by_query[j] = S::mul_add(s, q, by_query[j]);
            }
        }
        Found { by_key, by_query }
    }
}

/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn learn<S: Simd, const V: usize>(
    state: *mut f32,
    key_dim: usize,
    kept: S::V,
    key: *const f32,
    change: [S::V; V],
) {
    // SAFETY: by this function's own contract.
    unsafe {
        for i in 0..key_dim {
            let k = S::splat(*key.add(i));
            for j in 0..V {
                let at = state.add((i * V + j) * S::LANES);
                let s = S::mul_add(k, change[j], S::mul(S::load_f32(at), kept));
                S::store_f32(at, s);
            }
        }
    }
}

/// [`learn`], and then [`find`] what `next` asks for, a key and a query.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn learn_and_find<S: Simd, const V: usize>(
    state: *mut f32,
    key_dim: usize,
    kept: S::V,
    key: *const f32,
    change: [S::V; V],
    next: [*const f32; 2],
) -> Found<S, V> {
    // SAFETY: by this function's own contract.
    unsafe {
        let (mut by_key, mut by_query) = ([S::zero(); V], [S::zero(); V]);
        for i in 0..key_dim {
            let k = S::splat(*key.add(i));
            let (next_k, next_q) = (S::splat(*next[0].add(i)), S::splat(*next[1].add(i)));
            for j in 0..V {
                let at = state.add((i * V + j) * S::LANES);
                let s = S::mul_add(k, change[j], S::mul(S::load_f32(at), kept));
                S::store_f32(at, s);
                by_key[j] = S::mul_add(s, next_k, by_key[j]);
                by_query[j] = S::mul_add(s, next_q, by_query[j]);
            }
        }
        Found { by_key, by_query }
    }
}
