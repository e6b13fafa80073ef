// activation(gate x) * up x for each of few tokens and each of its experts, at the speed of memory; with BIASES both
// products have one.
//
// A warp makes one number: it finds the expert of its pair itself, which saves a launch, and reads one row of the
// gate and one of up. Compiled behind number.cuh, activation.cuh, weights.cuh and route.cuh with WARPS.

/// `y [pairs, width]`, blockIdx.y counts the pairs, TOP a token.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    few_inner(const Number* x, const float* logits, const u8* gate_words, const Scale* gate_scales,
              const Scale* gate_biases, const u8* up_words, const Scale* up_scales, const Scale* up_biases,
#ifdef BIASES
              const Number* gate_bias, const Number* up_bias,
#endif
              Number* y, int eights, int width) {
  const int lane = threadIdx.x % 32, row = blockIdx.x * WARPS + threadIdx.x / 32;
  const int token = blockIdx.y / TOP, slot = blockIdx.y % TOP;
  if (row >= width) return;
  int expert = 0;
  choose(logits + (u64)token * EXPERTS, slot + 1, [&](int, int e, float) { expert = e; });
  const Stack gate = {gate_words, gate_scales, gate_biases, eights};
  const Stack up = {up_words, up_scales, up_biases, eights};
  x += (u64)token * eights * 8;
  const u64 at = (u64)expert * width + row;
  float g = 0, u = 0;
#pragma unroll 4
  for (int c = lane; c < eights; c += 32) {
    const Eight of_gate = gate.read(at, c), of_up = up.read(at, c);
    float v[8];
    load(x + c * 8, v);
    g = add_products(of_gate, v, g);
    u = add_products(of_up, v, u);
  }
  g = warp_sum(g), u = warp_sum(u);
#ifdef BIASES
  g += to_float(gate_bias[at]), u += to_float(up_bias[at]);
#endif
  if (lane == 0) y[(u64)blockIdx.y * width + row] = to_number(gated_by(g, u));
}
