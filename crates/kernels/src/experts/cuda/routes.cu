// The experts of many tokens. A warp has a token. Compiled behind number.cuh and route.cuh with WARPS.

/// `chosen [tokens, TOP]`, and as many shares.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    routes(const float* logits, int* chosen, float* shares, int tokens) {
  const int token = blockIdx.x * WARPS + threadIdx.x / 32;
  if (token >= tokens) return;
  const Route route(logits + (u64)token * EXPERTS);
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int slot = 0; slot < TOP; slot++) {
    chosen[(u64)token * TOP + slot] = route.expert[slot];
    shares[(u64)token * TOP + slot] = route.share[slot];
  }
}
