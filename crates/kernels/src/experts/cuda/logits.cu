// What the router says of each token: float32 sums of x and the rows of one matrix.
//
// A warp makes SOME logits of a token. Compiled behind number.cuh and weights.cuh with EXPERTS and WARPS; with
// BIASES the matrix has one a row.

constexpr int SOME = 4;

/// `x` has rows of `eights` eights, blockIdx.y counts them; `y` has EXPERTS logits a row.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    logits(const Number* x, const u8* words, const Scale* scales, const Scale* biases,
#ifdef BIASES
           const Number* bias,
#endif
           float* y, int eights) {
  const int lane = threadIdx.x % 32, first = (blockIdx.x * WARPS + threadIdx.x / 32) * SOME;
  if (first >= EXPERTS) return;
  const Stack router = {words, scales, biases, eights};
  x += (u64)blockIdx.y * eights * 8;
  float sum[SOME] = {};
#pragma unroll 2
  for (int c = lane; c < eights; c += 32) {
    Eight w[SOME];
#pragma unroll
    for (int j = 0; j < SOME; j++) w[j] = router.read(min(first + j, EXPERTS - 1), c);
    float v[8];
    load(x + c * 8, v);
#pragma unroll
    for (int j = 0; j < SOME; j++) sum[j] = add_products(w[j], v, sum[j]);
  }
#pragma unroll
  for (int j = 0; j < SOME; j++) {
    float logit = warp_sum(sum[j]);
#ifdef BIASES
    logit += to_float(bias[min(first + j, EXPERTS - 1)]);
#endif
    if (lane == 0 && first + j < EXPERTS) y[(u64)blockIdx.y * EXPERTS + first + j] = logit;
  }
}
