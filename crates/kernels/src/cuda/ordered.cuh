// Integers in the order of floats.

typedef unsigned int u32;

__device__ __forceinline__ u32 ordered(float x) {
  const u32 bits = __float_as_uint(x);
  return bits ^ (bits >> 31 ? ~0u : 0x80000000u);
}

/// The float of such an integer.
__device__ __forceinline__ float unordered(u32 x) { return __uint_as_float(x >> 31 ? x ^ 0x80000000u : ~x); }
