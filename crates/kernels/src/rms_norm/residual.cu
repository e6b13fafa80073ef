// Root-mean-square norms and the residual sums between them, a block a row, in float32 from and to
// numbers of 16 or 32 bits.
//
// The row stays in registers from the first read to the last write, so everything is read once.
//
// Compiled behind number.cuh with WIDTH (a multiple of 8) and THREADS, and with some of
//   ADD      x is a residual stream to which an addend is added;
//   BEHIND   the addend is normalized first;
//   NORM     what follows is wanted normalized.

constexpr int EIGHTS = WIDTH / 8;
constexpr int EACH = (EIGHTS + THREADS - 1) / THREADS;

/// The factor that makes the mean square of the block's row one.
__device__ __forceinline__ float normalizing(const float (&x)[EACH][8], float eps, float* sums) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) sum += x[i][j] * x[i][j];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int i = 0; i < THREADS / 32; i++) sum += sums[i];
  return rsqrtf(sum / WIDTH + eps);
}

/// A row of zeros behind its end.
__device__ __forceinline__ void load_row(const Number* row, float (&x)[EACH][8]) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int at = i * THREADS + threadIdx.x;
    if (at < EIGHTS) {
      load(row + at * 8, x[i]);
    } else {
#pragma unroll
      for (int j = 0; j < 8; j++) x[i][j] = 0;
    }
  }
}

__device__ __forceinline__ void store_row(const float (&x)[EACH][8], Number* row) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int at = i * THREADS + threadIdx.x;
    if (at < EIGHTS) store(x[i], row + at * 8);
  }
}

/// Multiplies with `by` and the weights.
__device__ __forceinline__ void scale_row(float (&x)[EACH][8], float by, const Number* weights) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int at = i * THREADS + threadIdx.x;
    if (at < EIGHTS) {
      float w[8];
      load(weights + at * 8, w);
#pragma unroll
      for (int j = 0; j < 8; j++) x[i][j] *= by * w[j];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) residual(
    const Number* x,
#ifdef ADD
    const Number* addend,
#ifdef BEHIND
    const Number* behind_weights,
#endif
#endif
#ifdef NORM
    const Number* weights,
#endif
#ifdef ADD
    Number* sum,
#endif
#ifdef NORM
    Number* normed,
#endif
    float behind_eps, float eps) {
  __shared__ float sums[2][THREADS / 32];
  const u64 row = (u64)blockIdx.x * WIDTH;
  float v[EACH][8];
  load_row(x + row, v);
#ifdef ADD
  float a[EACH][8];
  load_row(addend + row, a);
#ifdef BEHIND
  scale_row(a, normalizing(a, behind_eps, sums[0]), behind_weights);
#endif
#pragma unroll
  for (int i = 0; i < EACH; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) {
      float s = v[i][j] + a[i][j];
#ifdef FLOAT16
      // The residual stream of some models leaves the range.
      s = fminf(fmaxf(s, -65504.0f), 65504.0f);
#endif
      // What is normalized is what the next block will read.
      v[i][j] = to_float(to_number(s));
    }
  store_row(v, sum + row);
#endif
#ifdef NORM
  scale_row(v, normalizing(v, eps, sums[1]), weights);
  store_row(v, normed + row);
#endif
}
