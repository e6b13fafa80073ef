// Rows of matrices, plain or packed, eight numbers at a time. Behind number.cuh, with DENSE, or else BITS (4 or
// 8) and GROUP, and MXFP4 where codes are floats.

#ifdef MXFP4
typedef u8 Scale;
#else
typedef Number Scale;
#endif

#ifdef DENSE
typedef uint4 Words;
#elif BITS == 8
typedef uint2 Words;
#else
typedef u32 Words;
#endif

/// A code as the float that it stands for, before its scale.
__device__ __forceinline__ float coded(u32 code) {
#ifdef MXFP4
  // Its exponent and first bit of the mantissa lie as a float's do, whose exponent is 126 less.
  return __uint_as_float((code & 8) << 28 | (code & 7) << 22) * __uint_as_float(253u << 23);
#else
  // An integer in the lowest bits of 2^23.
  return __uint_as_float(0x4b000000u | code) - 8388608.0f;
#endif
}

__device__ __forceinline__ float scale_of(Scale s) {
#ifdef MXFP4
  return __uint_as_float(s == 0 ? 0x00400000u : (u32)s << 23);
#else
  return to_float(s);
#endif
}

/// Eight numbers as they are stored.
struct Eight {
  Words words;
#ifndef DENSE
  Scale scale, bias;

  __device__ __forceinline__ u32 code(int i) const {
#if BITS == 8
    return ((i < 4 ? words.x : words.y) >> i % 4 * 8) & 255;
#else
    return (words >> i * 4) & 15;
#endif
  }
#endif
};

/// Matrices one behind the other, whose rows have so many eights.
struct Stack {
  const u8* words;
  const Scale* scales;
  const Scale* biases;
  int eights;

  /// An eight of a row, counted from the first matrix on.
  __device__ __forceinline__ Eight read(u64 row, int eight) const {
    const u64 at = row * eights + eight;
    Eight e;
    e.words = ((const Words*)words)[at];
#ifndef DENSE
    e.scale = scales[at / (GROUP / 8)];
#ifndef MXFP4
    e.bias = biases[at / (GROUP / 8)];
#endif
#endif
    return e;
  }
};

/// `sum` and the products of eight weights with `x`.
__device__ __forceinline__ float add_products(const Eight& e, const float (&x)[8], float sum) {
#ifdef DENSE
  const u32 words[4] = {e.words.x, e.words.y, e.words.z, e.words.w};
#pragma unroll
  for (int i = 0; i < 8; i++) sum = fmaf(to_float((Number)(words[i / 2] >> i % 2 * 16)), x[i], sum);
  return sum;
#else
  float by_code = 0, all = 0;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    by_code = fmaf(coded(e.code(i)), x[i], by_code);
    all += x[i];
  }
  sum = fmaf(scale_of(e.scale), by_code, sum);
#ifndef MXFP4
  sum = fmaf(to_float(e.bias), all, sum);
#endif
  return sum;
#endif
}
