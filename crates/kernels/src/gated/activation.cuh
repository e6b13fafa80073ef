// The functions that a gate goes through. Behind number.cuh, with SILU, GELU_TANH, or CLAMPED, LIMIT and ALPHA.

/// activation(g) * u: g * sigmoid(t) * u, where t is g itself, or makes the sigmoid what 0.5 (1 + tanh(t / 2)) is.
/// Clamped, g is at most LIMIT, t is ALPHA g, and u is held between -LIMIT and LIMIT, and one more.
__device__ __forceinline__ float gated_by(float g, float u) {
#ifdef CLAMPED
  g = fminf(g, LIMIT);
  u = fmaxf(fminf(u, LIMIT), -LIMIT) + 1.0f;
  const float t = ALPHA * g;
#elif defined(SILU)
  const float t = g;
#else
  const float t = 1.5957691216057308f * (g + 0.044715f * g * g * g);
#endif
#ifdef FLOAT32
  return g / (1.0f + expf(-t)) * u;
#else
  return __fdividef(g, 1.0f + __expf(-t)) * u;
#endif
}
