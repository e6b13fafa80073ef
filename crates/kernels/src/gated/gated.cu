// The gate of an MLP: activation(gate) * up, in float32 from and to numbers of 16 or 32 bits.
//
// A thread makes eight results in a row. Gate and up are columns of arrays, often of the same one, since
// their products are made together.
//
// Compiled behind number.cuh and activation.cuh with THREADS.

/// `eights` eights of results, `row` in a row. The first of gate and up begin at these numbers of their
/// arrays, and rows are so many numbers apart.
extern "C" __global__ void __launch_bounds__(THREADS)
    gated(const Number* gate, const Number* up, Number* y, int eights, int row, int gate_at, int gate_apart,
          int up_at, int up_apart) {
  const u32 i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= eights) return;
  const u32 r = i / row, c = i % row * 8;
  float g[8], u[8];
  load(gate + gate_at + (u64)r * gate_apart + c, g);
  load(up + up_at + (u64)r * up_apart + c, u);
#pragma unroll
  for (int j = 0; j < 8; j++) g[j] = gated_by(g[j], u[j]);
  store(g, y + (u64)i * 8);
}
