// Packed numbers as plain ones: what MLX's `dequantize` gives, bit for bit, at the speed of memory.
//
// A thread makes eight numbers in a row. They are BITS bytes, belong to one group, and fill one store
// of 16 bytes, or two; neighbouring threads make neighbouring eights, so a warp reads and writes runs
// of addresses.
//
// Compiled with BITS (2 to 6 or 8), GROUP (32, 64 or 128), one of BFLOAT16, FLOAT16 and FLOAT32, and
// THREADS. Two numbers of 16 bits are handled as one word. No header is needed.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef FLOAT32
typedef u32 Number;
#else
typedef u16 Number;
#endif

/// The BITS bytes at `p`, the first lowest. They are read once.
__device__ __forceinline__ u64 packed(const u8* p) {
#if BITS == 8
  const uint2 words = __ldcs((const uint2*)p);
  return words.x | (u64)words.y << 32;
#elif BITS == 4
  return __ldcs((const u32*)p);
#elif BITS % 2 == 0
  u64 bits = 0;
#pragma unroll
  for (int i = 0; i < BITS / 2; i++) bits |= (u64)((const u16*)p)[i] << 16 * i;
  return bits;
#else
  u64 bits = 0;
#pragma unroll
  for (int i = 0; i < BITS; i++) bits |= (u64)p[i] << 8 * i;
  return bits;
#endif
}

/// Two small integers, which both types of 16 bits hold exactly; `low` is the first in memory.
__device__ __forceinline__ u32 pair(float low, float high) {
  u32 made;
#ifdef FLOAT16
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(made) : "f"(high), "f"(low));
#else
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(made) : "f"(high), "f"(low));
#endif
  return made;
}

/// `scale * q + bias` of two numbers, rounded as MLX's kernel does: once, but for bfloat16 before
/// sm_90, where there is a fused product only and the compiler makes a product and a sum of two of them.
__device__ __forceinline__ u32 scaled(u32 scale, u32 q, u32 bias) {
  u32 made;
#ifdef FLOAT16
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(made) : "r"(scale), "r"(q), "r"(bias));
#elif __CUDA_ARCH__ >= 900
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(made) : "r"(scale), "r"(q), "r"(bias));
#else
  u32 product;
  const u32 minus_zeros = 0x80008000, ones = 0x3f803f80;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(scale), "r"(q), "r"(minus_zeros));
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(made) : "r"(product), "r"(ones), "r"(bias));
#endif
  return made;
}

/// Eight numbers: `bits` unpacked, times `scale`, plus `bias`.
__device__ __forceinline__ void store(u64 bits, Number scale, Number bias, Number* out) {
  float q[8];
#pragma unroll
  for (int i = 0; i < 8; i++) q[i] = (float)((u32)(bits >> BITS * i) & ((1u << BITS) - 1));
#ifdef FLOAT32
  const float s = __uint_as_float(scale), b = __uint_as_float(bias);
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    *(float4*)(out + i) = make_float4(fmaf(s, q[i], b), fmaf(s, q[i + 1], b), fmaf(s, q[i + 2], b),
                                      fmaf(s, q[i + 3], b));
  }
#else
  const u32 s = scale | (u32)scale << 16, b = bias | (u32)bias << 16;
  *(uint4*)out = make_uint4(scaled(s, pair(q[0], q[1]), b), scaled(s, pair(q[2], q[3]), b),
                            scaled(s, pair(q[4], q[5]), b), scaled(s, pair(q[6], q[7]), b));
#endif
}
