// Attention of many queries over a cache, with the softmax computed on the way (FlashAttention-2,
// arXiv:2307.08691).
//
// A block takes 16 or 32 neighbouring queries a warp, of one head, and walks over the keys that they see, a tile
// of KEYS at a time; the tiles behind are on their way into shared memory meanwhile. A warp holds its
// scores, their softmax and its sums in registers, as the matrix units give and take them: lane l has of
// an 8 by 8 part the elements 2 (l % 4) and the next of row l / 4.
//
// Compiled behind number.cuh, tiles.cuh and fragments.cuh with HEAD_DIM (a multiple of 16), WARPS, PARTS (sixteens of a
// warp's queries), and KEYS (a multiple of 16).

constexpr int THREADS = 32 * WARPS;
constexpr int QUERIES = 16 * PARTS * WARPS;
/// Sixteens of a head's elements.
constexpr int STEPS = HEAD_DIM / 16;
/// Bytes from row to row in shared memory: of eight rows the same 16 bytes lie in different banks.
constexpr int PITCH = HEAD_DIM * 2 + 16;
constexpr int TILE = KEYS * PITCH;

/// Starts to copy the COUNT rows at `from` into shared memory; rows behind the first `there` become zero.
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

#if __CUDA_ARCH__ >= 1200
// Shared memory has room for two blocks at most: registers saved for a third would be spilled for nothing.
#define BOUNDS __launch_bounds__(THREADS, 2)
#else
#define BOUNDS __launch_bounds__(THREADS)
#endif

/// Queries [tokens, heads, HEAD_DIM] to sums [tokens, heads, HEAD_DIM]; keys and values are
/// [kv_heads, capacity, HEAD_DIM], of which the first `visible` are there, the queries' own the last of
/// them. If `causal`, a query sees the keys up to its own; if `window` is not 0, of those the last `window`. A query
/// with a window that is not causal sees the keys that are less than `window` from its own.
/// With SQUASH scores times `scale` are squashed to the range of `cap`, else that is not read. With SINKS a score of
/// each head joins them that has no value.
extern "C" __global__ void BOUNDS
    attend(const Number* queries, const Number* keys, const Number* values,
#ifdef SINKS
           const Number* sinks,
#endif
           Number* sums, int kv_heads, int tokens, int visible, int capacity, bool causal, int window, float scale,
           float cap) {
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

  // A query sees keys that are less than `behind` before its own and at most `ahead` behind it; no text is as long
  // as where there is no bound.
  constexpr int UNBOUNDED = 1 << 29;
  const int behind = window > 0 ? min(window, UNBOUNDED) : UNBOUNDED;
  const int ahead = causal ? 0 : behind - 1;
  // The keys that any of the queries sees.
  const int from = max(before + first - behind + 1, 0) / KEYS;
  const int own_end = min(before + first + QUERIES, visible), end = own_end + min(ahead, visible - own_end);
  const int tiles = (end - from * KEYS + KEYS - 1) / KEYS;
  auto fetch_tile = [&](const Number* all, int i, u32 to) {
    const int at = (from + i) * KEYS;
    if (i < tiles) fetch<KEYS>(all + (u64)at * HEAD_DIM, HEAD_DIM, visible - at, to + i % 2 * TILE);
    copies_commit();
  };
  fetch<QUERIES>(queries + first * apart, apart, tokens - first, queries_at);
  fetch_tile(keys, 0, keys_at);
  fetch_tile(values, 0, values_at);

  // This lane's rows are `row` and `row + 8`, and those 16 further on.
  const int row = first + warp * 16 * PARTS + lane / 4, column = lane % 4 * 2;
  // Where this lane's rows of fragments begin: of queries and values 16 rows and then 8 elements on, of keys
  // 8 rows, 8 elements on, and then 8 rows on.
  const u32 along = lane % 16 * PITCH + lane / 16 * 16;
  const u32 across = (lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 16;
  const u32 query_row = queries_at + warp * 16 * PARTS * PITCH + along;

#ifdef SQUASH
  const float factor = cap * 1.44269504f;  // log2 e
  const float squash_by = scale / cap * 2.88539008f;  // 2 log2 e
#else
  const float factor = scale * 1.44269504f;  // log2 e
#endif
  const float unseen = __uint_as_float(0xff800000);  // minus infinity
  float sum[PARTS][HEAD_DIM / 8][4] = {}, most[PARTS][2], total[PARTS][2] = {};
#pragma unroll
  for (int p = 0; p < PARTS; p++) most[p][0] = most[p][1] = unseen;
#ifdef SINKS
  // A quarter of the weight that it begins with, in each of the lanes that share a row.
  const float sink = to_float(sinks[head]) * 1.44269504f / factor;
#pragma unroll
  for (int p = 0; p < PARTS; p++) {
    most[p][0] = most[p][1] = sink;
    total[p][0] = total[p][1] = 0.25f;
  }
#endif
#pragma unroll 1
  for (int i = 0; i < tiles; i++) {
    copies_wait<1>();
    __syncthreads();
    fetch_tile(keys, i + 1, keys_at);
    float score[PARTS][KEYS / 8][4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      uint4 a[PARTS];
#pragma unroll
      for (int p = 0; p < PARTS; p++) a[p] = load_matrices(query_row + p * 16 * PITCH + step * 32);
#pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
        const uint4 b = load_matrices(keys_at + i % 2 * TILE + j * 16 * PITCH + across + step * 32);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
          multiply(score[p][2 * j], a[p], b.x, b.y);
          multiply(score[p][2 * j + 1], a[p], b.z, b.w);
        }
      }
    }

#ifdef SQUASH
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
          // tanh x is 1 - 2 / (e^2x + 1).
          const float power = exp2_fast(score[p][j][e] * squash_by);
          score[p][j][e] = 1 - __fdividef(2, power + 1);
        }
      }
    }
#endif

    const int at = (from + i) * KEYS;
    // Whether all queries of the warp see the whole tile: the first one up to its end, the last one from its
    // beginning on.
    const int up_to = before + first + warp * 16 * PARTS;
    const bool all_seen = at + KEYS <= visible && at + KEYS - 1 - up_to <= ahead && up_to + 16 * PARTS - 1 - at < behind;
    if (!all_seen) {
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            const int key = at + j * 8 + column + e % 2, own = before + row + p * 16 + e / 2 * 8;
            const bool seen = key < visible && key - own <= ahead && own - key < behind;
            if (!seen) score[p][j][e] = unseen;
          }
        }
      }
    }

#pragma unroll
    for (int p = 0; p < PARTS; p++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float highest = most[p][half];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
          highest = fmaxf(highest, fmaxf(score[p][j][2 * half], score[p][j][2 * half + 1]));
        }
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 1));
        highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, 2));
        // Of a row that has seen nothing yet all weights are zero.
        const float base = highest == unseen ? 0 : highest * factor;
        const float shrink = exp2_fast(most[p][half] * factor - base);
        most[p][half] = highest;
        float weights = 0;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; e++) {
            score[p][j][e] = exp2_fast(score[p][j][e] * factor - base);
            weights += score[p][j][e];
          }
        }
        total[p][half] = total[p][half] * shrink + weights;
#pragma unroll
        for (int d = 0; d < HEAD_DIM / 8; d++) {
          sum[p][d][2 * half] *= shrink;
          sum[p][d][2 * half + 1] *= shrink;
        }
      }
    }

    copies_wait<1>();
    __syncthreads();
    fetch_tile(values, i + 1, values_at);
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
      uint4 a[PARTS];
#pragma unroll
      for (int p = 0; p < PARTS; p++) {
        const float* low = score[p][2 * j];
        const float* high = score[p][2 * j + 1];
        a[p] = {to_two(low[0], low[1]), to_two(low[2], low[3]), to_two(high[0], high[1]),
                to_two(high[2], high[3])};
      }
#pragma unroll
      for (int d = 0; d < STEPS; d++) {
        const uint4 b = load_transposed(values_at + i % 2 * TILE + j * 16 * PITCH + along + d * 32);
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
          multiply(sum[p][2 * d], a[p], b.x, b.y);
          multiply(sum[p][2 * d + 1], a[p], b.z, b.w);
        }
      }
    }
  }

#pragma unroll
  for (int p = 0; p < PARTS; p++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float of_row = total[p][half];
      of_row += __shfl_xor_sync(~0u, of_row, 1);
      of_row += __shfl_xor_sync(~0u, of_row, 2);
      const int to_row = row + p * 16 + half * 8;
      if (to_row >= tokens) continue;
      Number* to = sums + to_row * apart + column;
      const float by = 1 / of_row;
#pragma unroll
      for (int d = 0; d < HEAD_DIM / 8; d++) {
        *(u32*)(to + d * 8) = to_two(sum[p][d][2 * half] * by, sum[p][d][2 * half + 1] * by);
      }
    }
  }
}
