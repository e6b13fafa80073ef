// Reads `vectors` vectors of 16 bytes, `passes` times over, as fast as memory gives them.
//
// Eight loads of a thread are under way at a time. What is read is added up and written, once a
// thread, so that no load can be left out.
extern "C" __global__ void __launch_bounds__(512)
    read_all(const uint4* data, unsigned* sums, int vectors, int passes) {
  const unsigned stride = gridDim.x * blockDim.x;
  const unsigned first = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned end = vectors;
  unsigned sum = 0;
  for (int pass = 0; pass < passes; pass++) {
    for (unsigned i = first; i < end; i += 8 * stride) {
      uint4 v[8];
#pragma unroll
      for (int k = 0; k < 8; k++) {
        const unsigned at = i + k * stride;
        v[k] = at < end ? __ldcs(data + at) : make_uint4(0, 0, 0, 0);
      }
#pragma unroll
      for (int k = 0; k < 8; k++) {
        sum += v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
      }
    }
    sum = __funnelshift_l(sum, sum, 1);
  }
  sums[first] = sum;
}
