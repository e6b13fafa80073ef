// Whole matrices. Compiled behind eights.cuh with AT_ONCE, and with TWO for two matrices in one launch.

/// All of a matrix, as `eights` times eight numbers; with TWO another one, by the blocks from `blocks` on.
/// A thread takes AT_ONCE eights a block's width apart, whose loads are under way together.
extern "C" __global__ void __launch_bounds__(THREADS)
    dequantize(const u8* words, const Number* scales, const Number* biases,
#ifdef TWO
               const u8* other_words, const Number* other_scales, const Number* other_biases,
#endif
               Number* out,
#ifdef TWO
               Number* other_out,
#endif
               int eights
#ifdef TWO
               , int other_eights, int blocks
#endif
    ) {
  u32 block = blockIdx.x;
#ifdef TWO
  if (block >= blocks) {
    block -= blocks, eights = other_eights;
    words = other_words, scales = other_scales, biases = other_biases, out = other_out;
  }
#endif
  const u32 first = block * (THREADS * AT_ONCE) + threadIdx.x;
  u64 bits[AT_ONCE];
  Number scale[AT_ONCE], bias[AT_ONCE];
#pragma unroll
  for (int i = 0; i < AT_ONCE; i++) {
    const u32 at = first + i * THREADS;
    if (at < eights) {
      bits[i] = packed(words + (u64)at * BITS);
      scale[i] = scales[at / (GROUP / 8)];
      bias[i] = biases[at / (GROUP / 8)];
    }
  }
#pragma unroll
  for (int i = 0; i < AT_ONCE; i++) {
    const u32 at = first + i * THREADS;
    if (at < eights) store(bits[i], scale[i], bias[i], out + (u64)at * 8);
  }
}
