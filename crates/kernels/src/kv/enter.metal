// Puts keys and values of L tokens into buffers [1, heads, capacity, dim] from `start` on, where these lie, and
// gives the queries back: what takes those depends on this launch. A thread moves one number: z is a head of
// the queries, then one of the keys, then one of the values.
const uint at = thread_position_in_grid.x, token = thread_position_in_grid.y;
const uint query_heads = queries_shape[1], heads = keys_shape[1], tokens = queries_shape[2], dim = queries_shape[3];
uint head = thread_position_in_grid.z;
if (head < query_heads) {
  entered[(size_t(head) * tokens + token) * dim + at] =
      queries[head * queries_strides[1] + token * queries_strides[2] + at * queries_strides[3]];
  return;
}
head -= query_heads;
const size_t capacity = key_buffer_shape[2];
if (head < heads) {
  device T* to = (device T*)key_buffer;
  to[(head * capacity + start[0] + token) * dim + at] =
      keys[head * keys_strides[1] + token * keys_strides[2] + at * keys_strides[3]];
} else {
  head -= heads;
  device T* to = (device T*)value_buffer;
  to[(head * capacity + start[0] + token) * dim + at] =
      values[head * values_strides[1] + token * values_strides[2] + at * values_strides[3]];
}
