// Chosen rows of a matrix. Compiled behind eights.cuh.

/// Each as `eights` times eight numbers: blockIdx.y is the row of the result. One that is not
/// there, among `count`, leaves its result as it was.
extern "C" __global__ void __launch_bounds__(THREADS)
    dequantize_rows(const u8* words, const Number* scales, const Number* biases, const int* ids, Number* out,
                    int count, int eights) {
  const int id = ids[blockIdx.y];
  const u32 column = blockIdx.x * THREADS + threadIdx.x;
  if (id < 0 || id >= count || column >= eights) return;
  const u64 at = (u64)id * eights + column, group = at / (GROUP / 8);
  store(packed(words + at * BITS), scales[group], biases[group], out + ((u64)blockIdx.y * eights + column) * 8);
}
