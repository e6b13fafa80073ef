// The sum over a token's experts of down times what is inside them, times their shares, for few tokens.
//
// A warp makes one number of the sum, from a row of the down matrix of each expert. With SHARED an expert that all
// tokens have is added, with BIASES what an expert gives has one. Compiled behind number.cuh, weights.cuh and route.cuh with WARPS.

/// `inner [tokens, TOP, eights * 8]` to `y [tokens, width]`, blockIdx.y counts the tokens; `shared` is as `y`,
/// its gate a logit a token.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    few_outer(const Number* inner, const float* logits, const u8* words, const Scale* scales,
              const Scale* biases,
#ifdef BIASES
              const Number* bias,
#endif
              const Number* shared, const float* shared_gate, Number* y, int eights,
              int width) {
  const int lane = threadIdx.x % 32, row = blockIdx.x * WARPS + threadIdx.x / 32;
  const u64 token = blockIdx.y;
  if (row >= width) return;
  const Route route(logits + token * EXPERTS);
  const Stack down = {words, scales, biases, eights};
  inner += token * TOP * eights * 8;
  float part[TOP] = {};
  for (int c = lane; c < eights; c += 32) {
#pragma unroll
    for (int slot = 0; slot < TOP; slot++) {
      const Eight w = down.read((u64)route.expert[slot] * width + row, c);
      float v[8];
      load(inner + ((u64)slot * eights + c) * 8, v);
      part[slot] = add_products(w, v, part[slot]);
    }
  }
  float sum = 0;
#pragma unroll
  for (int slot = 0; slot < TOP; slot++) sum = fmaf(route.share[slot], part[slot], sum);
  sum = warp_sum(sum);
#ifdef BIASES
#pragma unroll
  for (int slot = 0; slot < TOP; slot++) {
    sum = fmaf(route.share[slot], to_float(bias[(u64)route.expert[slot] * width + row]), sum);
  }
#endif
#ifdef SHARED
  sum += to_float(shared[token * width + row]) / (1 + expf(-shared_gate[token]));
#endif
  if (lane == 0) y[token * width + row] = to_number(sum);
}
