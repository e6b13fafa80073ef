// Whole matrices, MATRICES (1 to 4) in one launch. Compiled behind eights.cuh with AT_ONCE.

/// So many `eights` times eight numbers of a matrix, which the blocks from the `block`th on make.
struct Matrix {
  const u8* words;
  const Number *scales, *biases;
  Number* out;
  int eights, block;
};

#if MATRICES == 1
#define EACH(f) f(0)
#elif MATRICES == 2
#define EACH(f) f(0), f(1)
#elif MATRICES == 3
#define EACH(f) f(0), f(1), f(2)
#else
#define EACH(f) f(0), f(1), f(2), f(3)
#endif
#define PACKED(i) const u8 *words##i, const Number *scales##i, const Number *biases##i
#define PLAIN(i) Number* out##i
#define PLACE(i) int eights##i, int block##i
#define MINE(i) \
  my = blockIdx.x >= block##i ? Matrix{words##i, scales##i, biases##i, out##i, eights##i, block##i} : my

/// A thread takes AT_ONCE eights a block's width apart, whose loads are under way together.
extern "C" __global__ void __launch_bounds__(THREADS)
    dequantize(EACH(PACKED), EACH(PLAIN), EACH(PLACE)) {
  Matrix my;
  EACH(MINE);
  const u32 first = (blockIdx.x - my.block) * (THREADS * AT_ONCE) + threadIdx.x;
  u64 bits[AT_ONCE];
  Number scale[AT_ONCE], bias[AT_ONCE];
#pragma unroll
  for (int i = 0; i < AT_ONCE; i++) {
    const u32 at = first + i * THREADS;
    if (at < my.eights) {
      bits[i] = packed(my.words + (u64)at * BITS);
      scale[i] = my.scales[at / (GROUP / 8)];
      bias[i] = my.biases[at / (GROUP / 8)];
    }
  }
#pragma unroll
  for (int i = 0; i < AT_ONCE; i++) {
    const u32 at = first + i * THREADS;
    if (at < my.eights) store(bits[i], scale[i], bias[i], my.out + (u64)at * 8);
  }
}
