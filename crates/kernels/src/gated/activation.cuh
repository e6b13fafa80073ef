// The functions that a gate goes through. Behind number.cuh, with SILU or GELU_TANH.

/// g * sigmoid(t), where t is g itself, or makes the sigmoid what 0.5 (1 + tanh(t / 2)) is.
__device__ __forceinline__ float activation(float g) {
#ifdef SILU
  const float t = g;
#else
  const float t = 1.5957691216057308f * (g + 0.044715f * g * g * g);
#endif
#ifdef FLOAT32
  return g / (1.0f + expf(-t));
#else
  return __fdividef(g, 1.0f + __expf(-t));
#endif
}
