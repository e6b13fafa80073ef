// Attention of many queries over a cache, with the softmax computed on the way (FlashAttention-2,
// arXiv:2307.08691).
//
// A block takes 16 neighbouring queries a warp, of one head, and walks over the keys that they see, a tile
// of KEYS at a time; the tiles behind are on their way into shared memory meanwhile. A warp holds its
// scores, their softmax and its sums in registers, as the matrix units give and take them: lane l has of
// an 8 by 8 part the elements 2 (l % 4) and the next of row l / 4.
//
// Compiled behind number.cuh, tiles.cuh and fragments.cuh with HEAD_DIM (a multiple of 16), WARPS, and KEYS (a multiple
// of 16).

constexpr int THREADS = 32 * WARPS;
constexpr int QUERIES = 16 * WARPS;
/// Sixteens of a head's elements.
constexpr int STEPS = HEAD_DIM / 16;
/// Bytes from row to row in shared memory: of eight rows the same 16 bytes lie in different banks.
constexpr int PITCH = HEAD_DIM * 2 + 16;
constexpr int TILE = KEYS * PITCH;
/// Whether a warp's queries stay in its registers: those of longer heads have no room beside the sums.
constexpr bool HELD = HEAD_DIM <= 128;

__device__ __forceinline__ float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Starts to copy the `count` rows at `from` into shared memory; rows behind the first `there` become zero.
template <int COUNT>
__device__ __forceinline__ void fetch(const Number* from, u64 apart, int there, u32 to) {
  constexpr int PIECES = HEAD_DIM / 8;
#pragma unroll
  for (int i = threadIdx.x; i < COUNT * PIECES; i += THREADS) {
    const int row = i / PIECES, piece = i % PIECES;
    const bool is_there = row < there;
    // What is not there is not read, but its address has to be one.
    const Number* at = from + (is_there ? row * apart : 0) + piece * 8;
    copy16(to + row * PITCH + piece * 16, (u64)at, is_there ? 16 : 0);
  }
}

/// Queries [tokens, heads, HEAD_DIM] to sums [tokens, heads, HEAD_DIM]; keys and values are
/// [kv_heads, capacity, HEAD_DIM], of which the first `visible` are there, the queries' own the last of
/// them. If `causal`, a query sees the keys up to its own; if `window` is not 0, of those the last `window`.
extern "C" __global__ void __launch_bounds__(THREADS)
    attend(const Number* queries, const Number* keys, const Number* values, Number* sums, int kv_heads,
           int tokens, int visible, int capacity, bool causal, int window, float scale) {
  extern __shared__ __align__(16) unsigned char shared[];
  const u32 keys_at = shared_address(shared), values_at = keys_at + 2 * TILE;
  const u32 queries_at = values_at + 2 * TILE;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int heads = gridDim.x, head = blockIdx.x;
  // The last queries see most keys: they start first, of all heads, and the short work fills the gaps.
  const int first = (gridDim.y - 1 - blockIdx.y) * QUERIES;
  const int before = visible - tokens;
  const u64 kv = (u64)(head / (heads / kv_heads)) * capacity * HEAD_DIM;
  keys += kv, values += kv;
  const u64 apart = (u64)heads * HEAD_DIM;
  queries += head * HEAD_DIM, sums += head * HEAD_DIM;

  // The keys that any of the queries sees.
  const int from = window > 0 ? max(before + first - window + 1, 0) / KEYS : 0;
  const int end = causal ? min(before + first + QUERIES, visible) : visible;
  const int tiles = (end - from * KEYS + KEYS - 1) / KEYS;
  auto fetch_tile = [&](const Number* all, int i, u32 to) {
    const int at = (from + i) * KEYS;
    if (i < tiles) fetch<KEYS>(all + (u64)at * HEAD_DIM, HEAD_DIM, visible - at, to + i % 2 * TILE);
    copies_commit();
  };
  if (!HELD) fetch<QUERIES>(queries + first * apart, apart, tokens - first, queries_at);
  fetch_tile(keys, 0, keys_at);
  fetch_tile(values, 0, values_at);

  // This lane's rows are `row` and `row + 8`.
  const int row = first + warp * 16 + lane / 4, column = lane % 4 * 2;
  uint4 held[HELD ? STEPS : 1];
  if (HELD) {
    auto two = [&](int row, int at) {
      return row < tokens ? *(const u32*)(queries + row * apart + at + column) : 0;
    };
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      const int at = step * 16;
      held[step] = {two(row, at), two(row + 8, at), two(row, at + 8), two(row + 8, at + 8)};
    }
  }
  // Where this lane's rows of fragments begin: of queries and values 16 rows and then 8 elements on, of keys
  // 8 rows, 8 elements on, and then 8 rows on.
  const u32 along = lane % 16 * PITCH + lane / 16 * 16;
  const u32 across = (lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 16;
  const u32 query_row = queries_at + warp * 16 * PITCH + along;

  const float factor = scale * 1.44269504f;  // log2 e
  const float unseen = __uint_as_float(0xff800000);  // minus infinity
  float sum[HEAD_DIM / 8][4] = {}, most[2] = {unseen, unseen}, total[2] = {};
#pragma unroll 1
  for (int i = 0; i < tiles; i++) {
    copies_wait<1>();
    __syncthreads();
    fetch_tile(keys, i + 1, keys_at);
    float score[KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      const uint4 a = HELD ? held[HELD ? step : 0] : load_matrices(query_row + step * 32);
#pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
        const uint4 b = load_matrices(keys_at + i % 2 * TILE + j * 16 * PITCH + across + step * 32);
        multiply(score[2 * j], a, b.x, b.y);
        multiply(score[2 * j + 1], a, b.z, b.w);
      }
    }

    const int at = (from + i) * KEYS;
    // What the warp's first query does not see up to, or its last one not from.
    const bool all_seen = (causal ? at + KEYS - 1 <= before + first + warp * 16 : at + KEYS <= visible) &&
                          (window <= 0 || at > before + first + warp * 16 + 15 - window);
    if (!all_seen) {
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int key = at + j * 8 + column + e % 2, own = before + row + e / 2 * 8;
          const bool seen = (causal ? key <= own : key < visible) && (window <= 0 || key > own - window);
          if (!seen) score[j][e] = unseen;
        }
      }
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
      float highest = most[half];
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
        highest = fmaxf(highest, fmaxf(score[j][2 * half], score[j][2 * half + 1]));
      }
      highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
      // Of a row that has seen nothing yet all weights are zero.
      const float base = highest == unseen ? 0 : highest * factor;
      const float shrink = exp2_of(most[half] * factor - base);
      most[half] = highest;
      float weights = 0;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; e++) {
          score[j][e] = exp2_of(score[j][e] * factor - base);
          weights += score[j][e];
        }
      }
      total[half] = total[half] * shrink + weights;
#pragma unroll
      for (int d = 0; d < HEAD_DIM / 8; d++) {
        sum[d][2 * half] *= shrink;
        sum[d][2 * half + 1] *= shrink;
      }
    }

    copies_wait<1>();
    __syncthreads();
    fetch_tile(values, i + 1, values_at);
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
      const float* low = score[2 * j];
      const float* high = score[2 * j + 1];
      const uint4 a = {to_two(low[0], low[1]), to_two(low[2], low[3]), to_two(high[0], high[1]),
                       to_two(high[2], high[3])};
#pragma unroll
      for (int d = 0; d < STEPS; d++) {
        const uint4 b = load_transposed(values_at + i % 2 * TILE + j * 16 * PITCH + along + d * 32);
        multiply(sum[2 * d], a, b.x, b.y);
        multiply(sum[2 * d + 1], a, b.z, b.w);
      }
    }
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {
    total[half] += __shfl_xor_sync(~0u, total[half], 1);
    total[half] += __shfl_xor_sync(~0u, total[half], 2);
    if (row + 8 * half >= tokens) continue;
    Number* to = sums + (row + 8 * half) * apart + column;
    const float by = 1 / total[half];
#pragma unroll
    for (int d = 0; d < HEAD_DIM / 8; d++) {
      *(u32*)(to + d * 8) = to_two(sum[d][2 * half] * by, sum[d][2 * half + 1] * by);
    }
  }
}
