// New buffers of keys and values [heads, capacity, dim], in pieces of 16 bytes: blockIdx.y is the head,
// and blockIdx.z chooses between keys and values. Compiled with THREADS.

/// Zeros behind the first `from` of each head's `pieces`.
extern "C" __global__ void __launch_bounds__(THREADS)
    kv_zeros(uint4* keys, uint4* values, int from, int pieces) {
  const unsigned i = from + blockIdx.x * THREADS + threadIdx.x;
  if (i >= pieces) return;
  uint4* to = blockIdx.z == 0 ? keys : values;
  to[(unsigned long long)blockIdx.y * pieces + i] = make_uint4(0, 0, 0, 0);
}
