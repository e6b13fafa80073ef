// New buffers of keys and values [heads, capacity, dim] from old ones, in pieces of 16 bytes: blockIdx.y is
// the head, and blockIdx.z chooses between keys and values. Compiled with THREADS.

typedef unsigned int u32;
typedef unsigned long long u64;

/// The tokens a0 .. a1, b0 .. b1 and c0 .. c1 of the old buffers behind one another, and zeros behind
/// them. A token is `pieces`. `after` is there for the order of launches only.
extern "C" __global__ void __launch_bounds__(THREADS)
    kv_rearranged(const uint4* old_keys, const uint4* old_values, const void* after, uint4* keys,
                  uint4* values, int pieces, int old_capacity, int capacity, int a0, int a1, int b0, int b1,
                  int c0, int c1) {
  const u32 i = blockIdx.x * THREADS + threadIdx.x;
  const int token = i / pieces, piece = i % pieces;
  if (token >= capacity) return;
  const int a = a1 - a0, b = b1 - b0, c = c1 - c0;
  const int from = token < a           ? a0 + token
                   : token < a + b     ? b0 + token - a
                   : token < a + b + c ? c0 + token - a - b
                                       : -1;
  const uint4* old = blockIdx.z == 0 ? old_keys : old_values;
  uint4* to = blockIdx.z == 0 ? keys : values;
  uint4 x = make_uint4(0, 0, 0, 0);
  if (from >= 0) x = old[((u64)blockIdx.y * old_capacity + from) * pieces + piece];
  to[((u64)blockIdx.y * capacity + token) * pieces + piece] = x;
}
