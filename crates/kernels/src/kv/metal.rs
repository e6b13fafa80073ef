//! Keys and values written where the buffers lie, as a Metal kernel.

use std::cell::OnceCell;

use mlx_core::metal::Kernel;
use mlx_core::{Array, Result};

use super::KvBuffers;
use crate::arrays::{are_floats, exactly};
use crate::metal::{Optional, runs};

/// The body of the kernel.
const BODY: &str = include_str!("enter.metal");

/// Inputs as the body names them.
const INPUTS: [&str; 7] = [
    "queries",
    "keys",
    "values",
    "key_buffer",
    "value_buffer",
    "start",
    "after",
];

/// Whether MLX's attention of one query with such heads is one kernel on Metal, which reads keys and values
/// where they lie, behind the queries. Of others it makes several, of which some could read the cache first.
fn is_fused(tokens: i32, dim: i32) -> bool {
    tokens == 1 && matches!(dim, 64 | 96 | 128 | 256)
}

/// Whether a pass may write caches where they lie, so that it has to be submitted before the next one.
pub(crate) fn may_write_in_place() -> Result<bool> {
    runs(Optional::Cache)
}

thread_local! {
    static ENTER: OnceCell<Kernel> = const { OnceCell::new() };
}

/// Puts keys and values `[1, kv_heads, 1, dim]` of a token into `buffers` at `start`; the queries
/// `[1, heads, 1, dim]`, on which attention depends. `None` where the kernel does not run.
pub(crate) fn enter(
    queries: &Array,
    keys: &Array,
    values: &Array,
    buffers: &mut KvBuffers,
    start: i32,
) -> Result<Option<Array>> {
    let heads = buffers.heads();
    let dtype = heads.dtype;
    let (&[1, query_heads, tokens, dim], &[1, count, 1, _]) = (queries.shape(), keys.shape())
    else {
        return Ok(None);
    };
    let fits = [keys, values]
        .iter()
        .all(|x| x.shape() == [1, heads.count, 1, heads.dim])
        && [queries, keys, values].iter().all(|x| x.dtype() == dtype)
        && dim == heads.dim
        && (0..buffers.capacity()).contains(&start)
        && are_floats(&[queries]);
    if !fits || !is_fused(tokens, dim) || !may_write_in_place()? {
        return Ok(None);
    }
    let at = Array::from_slice(&[start], &[1])?;
    let ([key_buffer, value_buffer], after) = buffers.in_place()?;
    let inputs = [
        queries,
        keys,
        values,
        key_buffer,
        value_buffer,
        &at,
        after.unwrap_or(&at),
    ];
    let threads = [dim, 1, query_heads + 2 * count];
    let outputs = [(queries.shape(), dtype)];
    let entered = ENTER.with(|made| -> Result<Array> {
        let kernel = match made.get() {
            Some(kernel) => kernel,
            None => {
                let new = Kernel::new("kv_enter", &INPUTS, &["entered"], BODY, "", false)?;
                made.get_or_init(|| new)
            }
        };
        // SAFETY: one thread for each number of queries, keys and values, which are read by their strides.
        // The buffers have room at `start`; they are `KvBuffers`' own, and whatever reads or writes them next
        // takes the result, which `written_by` keeps, or queries made of it.
        let made = unsafe { kernel.launch(&inputs, &outputs, dtype, threads, [dim, 1, 1]) }?;
        let [entered] = exactly(made);
        Ok(entered)
    })?;
    buffers.written_by(entered.clone());
    Ok(Some(entered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metal::as_cpp;

    /// The body moves each number of keys and values to its place, and no other number of the buffers.
    #[test]
    fn the_body_puts_a_token_where_it_belongs() {
        let [query_heads, heads, capacity, dim, start] = [6, 2, 5, 8, 3];
        // Queries and keys are dense; values are a transposed view, heads inside tokens, of wider rows.
        let source = format!(
            r"
int main() {{
  auto queries = read<float>({query_heads} * {dim}), keys = read<float>({heads} * {dim});
  auto values = read<float>({heads} * {dim} * 2);
  auto key_buffer = read<float>({heads} * {capacity} * {dim}), value_buffer = key_buffer;
  std::vector<float> entered({query_heads} * {dim});
  const int queries_shape[] = {{1, {query_heads}, 1, {dim}}}, keys_shape[] = {{1, {heads}, 1, {dim}}};
  const int key_buffer_shape[] = {{1, {heads}, {capacity}, {dim}}};
  const int64_t queries_strides[] = {{{query_heads} * {dim}, {dim}, {dim}, 1}};
  const int64_t keys_strides[] = {{{heads} * {dim}, {dim}, {dim}, 1}};
  const int64_t values_strides[] = {{{heads} * {dim} * 2, {dim} * 2, {heads} * {dim} * 2, 1}};
  const int start[] = {{{start}}};
  auto body = [&](uint3 thread_position_in_grid, const float* queries, const float* keys, const float* values,
                  const float* key_buffer, const float* value_buffer, float* entered) {{
    {BODY}
  }};
  for (uint z = 0; z < {query_heads} + 2 * {heads}; z++)
    for (uint x = 0; x < {dim}; x++)
      body(uint3{{x, 0, z}}, queries.data(), keys.data(), values.data(), key_buffer.data(), value_buffer.data(),
           entered.data());
  write(entered), write(key_buffer), write(value_buffer);
}}"
        );
        let [q, kv, all] = [query_heads * dim, heads * dim, heads * capacity * dim];
        let input: Vec<f32> = (0..q + 3 * kv + all).map(|i| 1.0 + i as f32).collect();
        let found = as_cpp::run(&source, &input);
        let (old, token) = (&input[q + 3 * kv..], &input[q..q + 3 * kv]);
        let mut right = input[..q].to_vec();
        for is_value in [false, true] {
            for head in 0..heads {
                for row in 0..capacity {
                    for at in 0..dim {
                        right.push(match (row == start, is_value) {
                            (false, _) => old[(head * capacity + row) * dim + at],
                            (true, false) => token[head * dim + at],
                            (true, true) => token[kv + head * 2 * dim + at],
                        });
                    }
                }
            }
        }
        assert_eq!(found, right);
    }
}
