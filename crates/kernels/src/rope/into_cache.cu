// What stands between the products of an attention's input and the attention: queries and keys are
// normalized and rotated, keys and values go where the cache has them.
//
// A block takes a token. Its threads first work out the turns of the planes, which all heads share;
// then a warp takes a head at a time and holds it in registers. The two elements of a plane are half a
// head apart.
//
// Compiled behind number.cuh with HEAD_DIM (even), HEADS, KV_HEADS, and THREADS; with NORMS if queries and
// keys are normalized, else nothing is read of the weights; with NEW if the cache is made by it: then there
// is a block for each of its tokens, and zeros behind those that are there.

constexpr int HALF = HEAD_DIM / 2;
/// Neighbouring planes of a lane: as many as fill a warp, and no more bytes than are read at once.
constexpr int MOST = HALF % 128 == 0 ? 4 : HALF % 64 == 0 ? 2 : 1;
constexpr int PLANES = MOST < AT_ONCE ? MOST : AT_ONCE;
constexpr int EACH = (HALF + 32 * PLANES - 1) / (32 * PLANES);
constexpr int WARPS = THREADS / 32;

typedef Few<PLANES> Part;

/// The first plane of the lane's part `i`.
__device__ __forceinline__ int plane(int i) { return (i * 32 + threadIdx.x % 32) * PLANES; }

__device__ __forceinline__ void rotate(const Number* from, const Number* weights, float eps,
                                       const float2* turns, Number* to) {
  float low[EACH][PLANES], high[EACH][PLANES], sum = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int p = plane(i);
    Part l = {}, h = {};
    if (p < HALF) {
      l = *(const Part*)(from + p);
      h = *(const Part*)(from + HALF + p);
    }
#pragma unroll
    for (int j = 0; j < PLANES; j++) {
      low[i][j] = to_float(l.x[j]), high[i][j] = to_float(h.x[j]);
      sum += low[i][j] * low[i][j] + high[i][j] * high[i][j];
    }
  }
#ifdef NORMS
  const float by = rsqrtf(warp_sum(sum) / HEAD_DIM + eps);
#endif
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int p = plane(i);
    if (p >= HALF) continue;
#ifdef NORMS
    const Part wl = *(const Part*)(weights + p), wh = *(const Part*)(weights + HALF + p);
#endif
    Part l, h;
#pragma unroll
    for (int j = 0; j < PLANES; j++) {
#ifdef NORMS
      const float x = low[i][j] * by * to_float(wl.x[j]), y = high[i][j] * by * to_float(wh.x[j]);
#else
      const float x = low[i][j], y = high[i][j];
#endif
      const float2 turn = turns[p + j];
      l.x[j] = to_number(x * turn.x - y * turn.y);
      h.x[j] = to_number(x * turn.y + y * turn.x);
    }
    *(Part*)(to + p) = l;
    *(Part*)(to + HALF + p) = h;
  }
}

__device__ __forceinline__ void copy(const Number* from, Number* to) {
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int p = plane(i);
    if (p >= HALF) continue;
    *(Part*)(to + p) = *(const Part*)(from + p);
    *(Part*)(to + HALF + p) = *(const Part*)(from + HALF + p);
  }
}

/// q, k and v are columns of arrays: their first numbers, and how many numbers rows are apart. The first of
/// the `tokens` is at `position`, and goes to `place` of buffers [KV_HEADS, capacity, HEAD_DIM]. Queries
/// become [tokens, HEADS, HEAD_DIM]. `after` and `done` are there for the order of launches only.
extern "C" __global__ void __launch_bounds__(THREADS)
    rotate_into_cache(const Number* q, const Number* k, const Number* v, const Number* q_weights,
                      const Number* k_weights, const float* periods,
#ifdef NEW
                      Number* queries, Number* keys, Number* values,
#else
                      Number* keys, Number* values, const void* after, Number* queries, u8* done,
#endif
                      int q_at, int q_apart, int k_at, int k_apart, int v_at, int v_apart, float q_eps,
                      float k_eps, float scale, int position, int place, int capacity, int tokens) {
  __shared__ float2 turns[HALF];
  const u64 token = blockIdx.x;
  const u64 first = (place + token) * HEAD_DIM, apart = (u64)capacity * HEAD_DIM;
#ifdef NEW
  if (token >= tokens) {
    for (int i = threadIdx.x; i < KV_HEADS * HEAD_DIM; i += THREADS) {
      const u64 at = first + i / HEAD_DIM * apart + i % HEAD_DIM;
      keys[at] = values[at] = to_number(0);
    }
    return;
  }
#endif
#pragma unroll 1
  for (int p = threadIdx.x; p < HALF; p += THREADS) {
    // Of whole turns nothing remains; in float64, or large angles would lose what does.
    const float angle = scale * (float)(position + (int)token) / periods[p];
    const double whole = rint(angle * 0.15915494309189535);
    const float rest = (float)(angle - whole * 6.283185307179586);
#ifdef FLOAT32
    turns[p] = make_float2(cosf(rest), sinf(rest));
#else
    turns[p] = make_float2(__cosf(rest), __sinf(rest));
#endif
  }
  __syncthreads();
  q += q_at + token * q_apart, k += k_at + token * k_apart, v += v_at + token * v_apart;
  queries += token * HEADS * HEAD_DIM;
#pragma unroll 1
  for (int i = threadIdx.x / 32; i < HEADS + 2 * KV_HEADS; i += WARPS) {
    const bool query = i < HEADS, key = !query && i < HEADS + KV_HEADS;
    const int head = query ? i : key ? i - HEADS : i - HEADS - KV_HEADS;
    const Number* from = (query ? q : key ? k : v) + head * HEAD_DIM;
    Number* to = query ? queries + head * HEAD_DIM : (key ? keys : values) + first + head * apart;
    if (query || key) {
      rotate(from, query ? q_weights : k_weights, query ? q_eps : k_eps, turns, to);
    } else {
      copy(from, to);
    }
  }
}
