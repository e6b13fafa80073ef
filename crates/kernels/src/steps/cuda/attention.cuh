// Attention of the new token: a block has a part of the keys of one key head, for all query heads of it. The last
// block of a key head to be done joins the parts.

/// Keys whose scores are in shared memory at a time.
constexpr int KEYS_AT_ONCE = 128;
/// Of a part, at the least.
constexpr int KEYS_OF_PART = 32;
/// Numbers of each query, so many that what lies behind them begins at whole fours.
constexpr int QUERY_ROOM = (QUERIES_A_KEY + 3) / 4 * 4;
constexpr float LOG2E = 1.4426950408889634f;

/// Where the token goes, and what there is.
struct Spot {
  /// Position of the token; its place in the buffers, keys with it, places of a buffer.
  int position, place, held, capacity;
};

/// Parts of shared memory.
struct Attending {
  float2* rotation;  // [planes]
  float* queries;    // [queries a key][4][lanes of a key] of four numbers
  float* raw;        // a head for each warp
  float* scores;     // [queries a key][KEYS_AT_ONCE]
  float* largest;    // [queries a key]
  float* totals;
  float* factors;
  float* sums;       // [groups of keys][queries a key][dim]

  __device__ __forceinline__ Attending(unsigned char* shared, int dim) {
    float* at = reinterpret_cast<float*>(shared);
    rotation = reinterpret_cast<float2*>(at), at += dim;
    queries = at, at += QUERIES_A_KEY * dim;
    raw = at, at += WARPS * dim;
    scores = at, at += QUERIES_A_KEY * KEYS_AT_ONCE;
    largest = at, at += QUERY_ROOM;
    totals = at, at += QUERY_ROOM;
    factors = at, at += QUERY_ROOM;
    sums = at;
  }
};

/// A head of this warp, of `from` through a norm, if it has an `eps` of one, and rotated if it is to be, in `raw`.
__device__ __forceinline__ void make_head(const Step& step, const float* from, bool normed, const Number* weight,
                                          float eps, const float2* rotation, float* raw) {
  constexpr int DEEP = 4;
  const int lane = threadIdx.x % 32, dim = step[DIM], planes = rotation == nullptr ? 0 : step[PLANES];
  float sum = 0.0f;
#pragma unroll 1
  for (int first = lane; first < dim; first += 32 * DEEP) {
    // All are asked for before one is written: the compiler does not know that nobody reads there.
    float x[DEEP], by[DEEP];
#pragma unroll
    for (int i = 0; i < DEEP; i++) {
      const int d = first + 32 * i;
      x[i] = d < dim ? fresh(from + d) : 0.0f;
      by[i] = d < dim && weight != nullptr ? to_float(__ldg(weight + d)) : 1.0f;
    }
#pragma unroll
    for (int i = 0; i < DEEP; i++) {
      if (first + 32 * i < dim) raw[first + 32 * i] = x[i] * by[i];
      sum = fmaf(x[i], x[i], sum);
    }
  }
  if (normed) {
    const float scale = rsqrtf(warp_sum(sum) / dim + eps);
#pragma unroll 1
    for (int d = lane; d < dim; d += 32) raw[d] *= scale;
  }
  __syncwarp();
#pragma unroll 1
  for (int i = lane; i < planes; i += 32) {
    const float x = raw[i], y = raw[i + planes];
    const float2 turn = rotation[i];
    raw[i] = x * turn.x - y * turn.y;
    raw[i + planes] = x * turn.y + y * turn.x;
  }
  __syncwarp();
}

/// Elements of a key or value that a lane has at once.
constexpr int AT_ONCE = 16 / sizeof(Number);

/// Where element `d` of a query lies: as the lanes of a key, of which each has sixteen elements, read it.
__device__ __forceinline__ int query_place(int d, int lanes) {
  const int step = d / (AT_ONCE * lanes), rest = d % (AT_ONCE * lanes);
  return ((step * (AT_ONCE / 4) + rest % AT_ONCE / 4) * lanes + rest / AT_ONCE) * 4 + rest % 4;
}

/// Sixteen elements of a row, as `query_place` has them.
struct Key {
  uint4 words[16 / AT_ONCE];

  __device__ __forceinline__ void read(const Number* row, int lane, int lanes) {
#pragma unroll
    for (int i = 0; i < 16 / AT_ONCE; i++)
      words[i] = __ldcg(reinterpret_cast<const uint4*>(row + (i * lanes + lane) * AT_ONCE));
  }

  __device__ __forceinline__ void unpack(float (&x)[16]) const {
#pragma unroll
    for (int i = 0; i < 16 / AT_ONCE; i++) {
      const u32 w[4] = {words[i].x, words[i].y, words[i].z, words[i].w};
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if (AT_ONCE == 4) {
          x[4 * i + j] = __uint_as_float(w[j]);
        } else {
          x[8 * (i % 2) + 2 * j] = __uint_as_float(w[j] << 16);
          x[8 * (i % 2) + 2 * j + 1] = __uint_as_float(w[j] & 0xffff0000u);
        }
      }
    }
  }
};

__device__ __forceinline__ float2 read_two(const Number* p) {
#ifdef WIDE
  return __ldcg(reinterpret_cast<const float2*>(p));
#else
  const u32 x = __ldcg(reinterpret_cast<const u32*>(p));
  return float2{__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u)};
#endif
}

/// Scores of the keys from `first` on, in units of a power of two.
__device__ __forceinline__ void score_keys(const Step& step, const Attending& at, const Number* keys, int first,
                                           int count) {
  const int lanes = step[DIM] / 16, lane = threadIdx.x % 32, queries = step[HEADS] / step[KV_HEADS];
  const int of_warp = 32 / lanes, part = lane % lanes;
  const float cap = step.real(SCORE_CAP), scale = step.real(SCORE_SCALE);
  Key ahead = {};
  const int own = threadIdx.x / 32 * of_warp + lane / lanes;
  if (own < count) ahead.read(keys + (u64)(first + own) * step[DIM], part, lanes);
#pragma unroll 1
  for (int base = threadIdx.x / 32 * of_warp; base < count; base += WARPS * of_warp) {
    const int key = base + lane / lanes, next = key + WARPS * of_warp;
    float x[16];
    ahead.unpack(x);
    if (next < count) ahead.read(keys + (u64)(first + next) * step[DIM], part, lanes);
#pragma unroll 2
    for (int q = 0; q < queries; q++) {
      const float4* query = reinterpret_cast<const float4*>(at.queries + q * step[DIM]) + part;
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < 4; i++)
        sum = times(query[i * lanes], x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3], sum);
      for (int d = 1; d < lanes; d *= 2) sum += __shfl_xor_sync(~0u, sum, d);
      sum *= scale;
      if (cap > 0.0f) sum = cap * tanhf(sum / cap);
      if (part == 0 && key < count) at.scores[q * KEYS_AT_ONCE + key] = sum * LOG2E;
    }
  }
}

/// Scores to powers of two, with the largest score so far and the total of the powers; a warp has a query.
__device__ __forceinline__ void take_powers(const Step& step, const Attending& at, int count) {
  const int lane = threadIdx.x % 32, queries = step[HEADS] / step[KV_HEADS];
#pragma unroll 1
  for (int q = threadIdx.x / 32; q < queries; q += WARPS) {
    float* scores = at.scores + q * KEYS_AT_ONCE;
    float most = at.largest[q];
#pragma unroll 1
    for (int i = lane; i < count; i += 32) most = fmaxf(most, scores[i]);
    most = warp_max(most);
    float total = 0.0f;
#pragma unroll 1
    for (int i = lane; i < count; i += 32) {
      const float power = exp2f(scores[i] - most);
      scores[i] = power;
      total += power;
    }
    total = warp_sum(total);
    __syncwarp();
    if (lane == 0) {
      const float factor = exp2f(at.largest[q] - most);
      at.factors[q] = factor;
      at.totals[q] = at.totals[q] * factor + total;
      at.largest[q] = most;
    }
    __syncwarp();
  }
}

/// Adds values, each times its power; a thread has two columns, and of the keys every so manieth.
__device__ __forceinline__ void add_values(const Step& step, const Attending& at, const Number* values, int first,
                                           int count, float2 (&sums)[QUERIES_A_KEY]) {
  const int pairs = step[DIM] / 2, groups = THREADS / pairs, queries = step[HEADS] / step[KV_HEADS];
  const int column = threadIdx.x % pairs * 2, group = threadIdx.x / pairs;
#pragma unroll
  for (int q = 0; q < QUERIES_A_KEY; q++)
    if (q < queries) sums[q] = float2{sums[q].x * at.factors[q], sums[q].y * at.factors[q]};
  constexpr int DEEP = 8;
#pragma unroll 1
  for (int base = group; base < count; base += groups * DEEP) {
    float2 x[DEEP];
#pragma unroll
    for (int i = 0; i < DEEP; i++) {
      const int key = base + i * groups;
      x[i] = key < count ? read_two(values + (u64)(first + key) * step[DIM] + column) : float2{0.0f, 0.0f};
    }
#pragma unroll
    for (int i = 0; i < DEEP; i++) {
      const int key = smaller(base + i * groups, count - 1);
#pragma unroll
      for (int q = 0; q < QUERIES_A_KEY; q++) {
        if (q >= queries) break;
        const float power = at.scores[q * KEYS_AT_ONCE + key];
        sums[q] = float2{fmaf(power, x[i].x, sums[q].x), fmaf(power, x[i].y, sums[q].y)};
      }
    }
  }
}

/// Floats of a part of a query: its sums of values, its largest score, its total of powers, up to whole fours.
__device__ __forceinline__ int part_floats(int dim) { return dim + 4; }

/// The parts of the queries of key head `head`, joined, with a sink and gates if there are such.
__device__ __forceinline__ void join_parts(const Step& step, const Attending& at, int head, int parts, float* arena) {
  const int dim = step[DIM], queries = step[HEADS] / step[KV_HEADS], most_parts = step[SPLITS], lane = threadIdx.x % 32;
  const int each = part_floats(dim);
  const float* all = arena + step[PARTIAL];
  float* weights = at.sums;
#pragma unroll 1
  for (int q = threadIdx.x / 32; q < queries; q += WARPS) {
    const float* ends = all + (u64)(head * queries + q) * most_parts * each + dim;
    const float* sinks = step.at<float>(SINKS);
    const float sink = sinks ? __ldg(sinks + head * queries + q) * LOG2E : -INFINITY_;
    // There are no more parts than blocks.
    constexpr int EACH_LANE = (GRID + 31) / 32;
    float2 of_part[EACH_LANE];
    float most = sink, total = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH_LANE; i++) {
      const int p = i * 32 + lane;
      of_part[i] = p < parts ? __ldcg(reinterpret_cast<const float2*>(ends + (u64)p * each)) : float2{-INFINITY_, 0.0f};
      most = fmaxf(most, of_part[i].x);
    }
    most = warp_max(most);
#pragma unroll
    for (int i = 0; i < EACH_LANE; i++) {
      const int p = i * 32 + lane;
      const float weight = exp2f(of_part[i].x - most);
      if (p < parts) weights[q * most_parts + p] = weight;
      total = fmaf(weight, of_part[i].y, total);
    }
    total = warp_sum(total) + (sinks ? exp2f(sink - most) : 0.0f);
    if (lane == 0) at.totals[q] = 1.0f / total;
  }
  __syncthreads();
  // A lane has four columns, and each half of a warp every other part.
  const int total = queries * dim / 4, stride = step[QUERY_STRIDE];
#pragma unroll 1
  for (int base = threadIdx.x / 32 * 16; base < total; base += WARPS * 16) {
    const int i = base + lane % 16, d = i * 4 % dim, q = smaller(i * 4 / dim, queries - 1), query = head * queries + q;
    const float* from = all + (u64)query * most_parts * each + d;
    float4 sum = {};
    constexpr int DEEP = 12;
#pragma unroll 1
    for (int first = lane / 16; first < parts; first += 2 * DEEP) {
      float4 x[DEEP];
#pragma unroll
      for (int j = 0; j < DEEP; j++) {
        const int p = first + 2 * j;
        x[j] = p < parts ? fresh4(from + (u64)p * each) : float4{};
      }
#pragma unroll
      for (int j = 0; j < DEEP; j++) {
        const int p = smaller(first + 2 * j, parts - 1);
        sum = sum + x[j] * weights[q * most_parts + p];
      }
    }
    sum = sum + float4{__shfl_xor_sync(~0u, sum.x, 16), __shfl_xor_sync(~0u, sum.y, 16),
                       __shfl_xor_sync(~0u, sum.z, 16), __shfl_xor_sync(~0u, sum.w, 16)};
    if (lane >= 16 || i >= total) continue;
    sum = sum * at.totals[q];
    // A gate lies behind each head's query.
    if (stride > dim) {
      const float4 gate = fresh4(arena + step[QUERIES] + query * stride + dim + d);
      sum = sum * float4{sigmoid(gate.x), sigmoid(gate.y), sigmoid(gate.z), sigmoid(gate.w)};
    }
    *reinterpret_cast<float4*>(arena + step[TO] + query * dim + d) = sum;
  }
}

/// How the keys of a head are dealt.
struct Parts {
  /// Keys of a part, and parts.
  int each, count;

  __device__ __forceinline__ Parts(const Step& step, const Spot& spot) {
    const int most = larger(1, smaller(GRID / step[KV_HEADS], step[SPLITS]));
    each = larger(KEYS_OF_PART, ceil_div(spot.held, most)), count = ceil_div(spot.held, each);
  }
};

/// What attention needs of no other step, while the blocks meet in front of it: rotations in shared memory, and this
/// block's keys and values in the second-level cache.
__device__ __noinline__ void foresee_attention(const Step& step, const Spot& spot, u64 keys, u64 values,
                                               unsigned char* shared) {
  const Parts parts(step, spot);
  const int kv_heads = step[KV_HEADS];
  const u64 row = step[DIM] * sizeof(Number);
#pragma unroll 1
  for (int task = blockIdx.x; task < kv_heads * parts.count; task += GRID) {
    const int begin = task / kv_heads * parts.each, count = smaller(spot.held - begin, parts.each);
    const u64 from = ((u64)(task % kv_heads) * spot.capacity + begin) * row;
#pragma unroll 1
    for (u64 i = threadIdx.x * 128; i < count * row; i += THREADS * 128) {
      prefetch_line(keys + from + i);
      prefetch_line(values + from + i);
    }
  }
  if ((int)blockIdx.x >= kv_heads * parts.count) return;
  const Attending at(shared, step[DIM]);
  const float* periods = step.at<float>(PERIODS);
#pragma unroll 1
  for (int i = threadIdx.x; i < step[PLANES]; i += THREADS) {
    const double turns = (double)spot.position * step.real(POSITION_SCALE) / __ldg(periods + i) * 0.15915494309189535;
    float sine, cosine;
    sincospif(2.0f * (float)(turns - floor(turns)), &sine, &cosine);
    at.rotation[i] = float2{cosine, sine};
  }
}

/// Finds in shared memory what `foresee_attention` has left there.
__device__ __noinline__ void attend(const Step& step, const Spot& spot, u64 key_buffer, u64 value_buffer, float* arena,
                                    unsigned char* shared, u32* flag) {
  const int dim = step[DIM], kv_heads = step[KV_HEADS], queries = step[HEADS] / kv_heads, warp = threadIdx.x / 32;
  const Attending at(shared, dim);
  const Parts dealt(step, spot);
  const int each = dealt.each, parts = dealt.count;
  const u64 head_size = (u64)spot.capacity * dim;
#pragma unroll 1
  for (int task = blockIdx.x; task < kv_heads * parts; task += GRID) {
    const int head = task % kv_heads, part = task / kv_heads;
    const int begin = part * each, end = smaller(spot.held, begin + each);
    Number* keys = reinterpret_cast<Number*>(key_buffer) + head * head_size;
    Number* values = reinterpret_cast<Number*>(value_buffer) + head * head_size;
    __syncthreads();
    float* raw = at.raw + warp * dim;
    // From the last warp on, since the first ones have queries.
    const bool has_new = step[KEYS] >= 0 && spot.place >= begin && spot.place < end;
    if (has_new && warp >= WARPS - 2) {
      const bool is_key = warp == WARPS - 1;
      const float eps = step.real(is_key ? KEY_EPS : VALUE_EPS);
      make_head(step, arena + step[is_key ? KEYS : VALUES] + head * dim, eps >= 0.0f,
                is_key ? step.at(KEY_NORM) : nullptr, eps, is_key ? at.rotation : nullptr, raw);
      Number* to = (is_key ? keys : values) + (u64)spot.place * dim;
#pragma unroll 1
      for (int d = threadIdx.x % 32; d < dim; d += 32) to[d] = to_number(raw[d]);
      __syncwarp();
    }
#pragma unroll 1
    for (int q = warp; q < queries; q += WARPS) {
      const float eps = step.real(QUERY_EPS);
      make_head(step, arena + step[QUERIES] + (head * queries + q) * step[QUERY_STRIDE], eps >= 0.0f,
                step.at(QUERY_NORM), eps, at.rotation, raw);
#pragma unroll 1
      for (int d = threadIdx.x % 32; d < dim; d += 32) at.queries[q * dim + query_place(d, dim / 16)] = raw[d];
      __syncwarp();
    }
    if (threadIdx.x < queries) at.largest[threadIdx.x] = -INFINITY_, at.totals[threadIdx.x] = 0.0f;
    __syncthreads();
    float2 sums[QUERIES_A_KEY] = {};
#pragma unroll 1
    for (int first = begin; first < end; first += KEYS_AT_ONCE) {
      const int count = smaller(end - first, KEYS_AT_ONCE);
      score_keys(step, at, keys, first, count);
      __syncthreads();
      take_powers(step, at, count);
      __syncthreads();
      add_values(step, at, values, first, count, sums);
      __syncthreads();
    }
    const int pairs = dim / 2, groups = THREADS / pairs;
#pragma unroll
    for (int q = 0; q < QUERIES_A_KEY; q++)
      if (q < queries)
        reinterpret_cast<float2*>(at.sums)[(threadIdx.x / pairs * queries + q) * pairs + threadIdx.x % pairs] = sums[q];
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < queries * dim; i += THREADS) {
      const int q = i / dim, d = i % dim;
      float sum = 0.0f;
      for (int group = 0; group < groups; group++) sum += at.sums[group * queries * dim + i];
      float* to = arena + step[PARTIAL] + ((u64)(head * queries + q) * step[SPLITS] + part) * part_floats(dim);
      to[d] = sum;
      if (d == 0) to[dim] = at.largest[q], to[dim + 1] = at.totals[q];
    }
    u32* counter = reinterpret_cast<u32*>(arena + step[COUNTERS]) + head;
    if (last_of(counter, parts, flag)) join_parts(step, at, head, parts, arena);
  }
}
