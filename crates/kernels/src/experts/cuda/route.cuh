// The experts of a token, found by a warp. Behind number.cuh and ordered.cuh, with EXPERTS, TOP and, where shares are divided by
// their sum, RENORMALISED.

/// Logits of a lane, which has every 32nd.
constexpr int EACH = (EXPERTS + 31) / 32;

/// Calls `visit(slot, expert, logit)` for the likeliest `count` experts, likeliest first, of equals the first. An
/// expert is one of EXPERTS whatever the logits are.
template <typename Visit>
__device__ __forceinline__ void choose(const float* logits, int count, Visit visit) {
  const u32 lane = threadIdx.x % 32;
  u32 keys[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) keys[i] = i * 32 + lane < EXPERTS ? ordered(logits[i * 32 + lane]) : 0;
#pragma unroll
  for (int slot = 0; slot < TOP; slot++) {
    if (slot >= count) break;
    u32 best = 0, at = ~0u;
#pragma unroll
    for (int i = 0; i < EACH; i++) best = max(best, keys[i]);
    best = __reduce_max_sync(~0u, best);
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--) at = keys[i] == best ? i * 32 + lane : at;
    at = __reduce_min_sync(~0u, at);
#pragma unroll
    for (int i = 0; i < EACH; i++) keys[i] = i * 32 + lane == at ? 0 : keys[i];
    visit(slot, (int)at, unordered(best));
  }
}

/// The chosen experts and their shares.
struct Route {
  int expert[TOP];
  float share[TOP];

  __device__ __forceinline__ Route(const float* logits) {
    choose(logits, TOP, [&](int slot, int e, float logit) {
      expert[slot] = e;
      share[slot] = logit;
    });
    const float highest = share[0];
    float total = 0;
#pragma unroll
    for (int slot = 0; slot < TOP; slot++) {
      share[slot] = expf(share[slot] - highest);
      total += share[slot];
    }
#ifndef RENORMALISED
    total = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int e = i * 32 + threadIdx.x % 32;
      if (e < EXPERTS) total += expf(logits[e] - highest);
    }
    total = warp_sum(total);
#endif
#pragma unroll
    for (int slot = 0; slot < TOP; slot++) share[slot] /= total;
  }
};
