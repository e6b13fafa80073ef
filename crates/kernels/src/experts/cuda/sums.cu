// The sum over each token's experts, times their shares, in the order in which they were chosen. A thread makes
// eight numbers. With SHARED an expert that all tokens have is added, with BIASES what an expert gives has one. Compiled behind number.cuh with TOP and
// THREADS.

/// `outputs [tokens, TOP, eights * 8]` to `y [tokens, eights * 8]`, blockIdx.y counts the tokens.
extern "C" __global__ void __launch_bounds__(THREADS)
    sums(const Number* outputs, const float* shares,
#ifdef BIASES
         const int* chosen, const Number* bias,
#endif
         const Number* shared, const float* shared_gate, Number* y,
         int eights) {
  const u64 token = blockIdx.y;
  const int c = blockIdx.x * THREADS + threadIdx.x;
  if (c >= eights) return;
  float sum[8] = {}, v[8];
#pragma unroll
  for (int slot = 0; slot < TOP; slot++) {
    load(outputs + ((token * TOP + slot) * eights + c) * 8, v);
    const float share = shares[token * TOP + slot];
#ifdef BIASES
    float b[8];
    load(bias + ((u64)chosen[token * TOP + slot] * eights + c) * 8, b);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] += b[i];
#endif
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = fmaf(share, v[i], sum[i]);
  }
#ifdef SHARED
  load(shared + (token * eights + c) * 8, v);
  const float gate = 1 / (1 + expf(-shared_gate[token]));
#pragma unroll
  for (int i = 0; i < 8; i++) sum[i] = fmaf(gate, v[i], sum[i]);
#endif
  store(sum, y + (token * eights + c) * 8);
}
