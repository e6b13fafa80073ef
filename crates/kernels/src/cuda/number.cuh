// Numbers of one of the dtypes BFLOAT16, FLOAT16 and FLOAT32, which are floats while one computes with
// them. No header is needed.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef FLOAT32
typedef float Number;

__device__ __forceinline__ float to_float(Number x) { return x; }
__device__ __forceinline__ Number to_number(float x) { return x; }
#else
typedef u16 Number;

__device__ __forceinline__ float to_float(Number x) {
#ifdef FLOAT16
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
#else
  return __uint_as_float((u32)x << 16);
#endif
}

/// Rounds to nearest, ties to even.
__device__ __forceinline__ Number to_number(float x) {
  Number y;
#ifdef FLOAT16
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
#endif
  return y;
}
#endif

/// Numbers that are read and written at once, 16 bytes at most.
template <int COUNT>
struct __align__(COUNT * sizeof(Number)) Few {
  Number x[COUNT];
};

/// Numbers in 16 bytes.
constexpr int AT_ONCE = 16 / sizeof(Number);

/// Eight numbers at `p`, which is a multiple of 16 bytes.
__device__ __forceinline__ void load(const Number* p, float (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 8; i += AT_ONCE) {
    const Few<AT_ONCE> few = *(const Few<AT_ONCE>*)(p + i);
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) x[i + j] = to_float(few.x[j]);
  }
}

__device__ __forceinline__ void store(const float (&x)[8], Number* p) {
#pragma unroll
  for (int i = 0; i < 8; i += AT_ONCE) {
    Few<AT_ONCE> few;
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) few.x[j] = to_number(x[i + j]);
    *(Few<AT_ONCE>*)(p + i) = few;
  }
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(~0u, x, d);
  return x;
}
