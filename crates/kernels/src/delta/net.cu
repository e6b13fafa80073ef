// A gated delta net between its linear maps: convolution, norms, the gated delta rule and the gated norm.
//
// A block has COLS columns of one head's state, eight a warp, which stay in its registers while the tokens go by:
// a lane has every fourth group of four rows of a column, so that what a column finds is two shuffles away and no
// warp waits for another one. Few tokens are one launch, `delta_few`, whose blocks have whole heads. Of many, what
// each brings is made for all of them at once (`delta_prepare`), the rule runs in more blocks (`delta_many`), and
// `delta_norm` does the gated norm. The bits of a row do not depend on how many rows there are.
//
// Compiled behind number.cuh with KEY_DIM (a multiple of 32), VALUE_DIM (a multiple of COLS), COLS (a multiple of 8)
// and WIDTH (of the convolution), and with
//   BY_KEY_HEAD   where what comes in has the columns of each key head together,
//   FEW           for the kernel of few rows alone, with COLS as many as VALUE_DIM.

constexpr int TOKENS = 16;
constexpr int EACH = KEY_DIM / 16;

struct Sizes {
  int heads, key_heads;
  __device__ int channels() const { return 2 * key_heads * KEY_DIM + heads * VALUE_DIM; }
};

/// What comes in: rows of four arrays, with where the first column is and how far rows are apart.
struct Entered {
  const Number *mixed, *z, *b, *a;
  int mixed_at, mixed_apart, z_at, z_apart, b_at, b_apart, a_at, a_apart;
};

/// Where a head's columns are in what comes in; its channels are where they would be without BY_KEY_HEAD.
struct Places {
  int query, key, value, z, b, a;
};

__device__ __forceinline__ Places places(int head, Sizes sizes) {
  const int shared = sizes.heads / sizes.key_heads, key_head = head / shared;
  Places p;
#ifdef BY_KEY_HEAD
  const int of_key = head % shared;
  p.query = key_head * 2 * (KEY_DIM + shared * VALUE_DIM);
  p.key = p.query + KEY_DIM;
  p.value = p.key + KEY_DIM + of_key * VALUE_DIM;
  p.z = p.value + shared * VALUE_DIM;
  p.b = key_head * 2 * shared + of_key;
  p.a = p.b + shared;
#else
  p.query = key_head * KEY_DIM;
  p.key = p.query + sizes.key_heads * KEY_DIM;
  p.value = 2 * sizes.key_heads * KEY_DIM + head * VALUE_DIM;
  p.z = head * VALUE_DIM;
  p.b = p.a = head;
#endif
  return p;
}

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

/// Rows of `mixed` behind those of the tail, or behind zeros.
struct Seen {
  const Number *mixed, *tail;
  int apart, channels;
  bool has_tail;

  /// A row, counted from the first one of the tail.
  __device__ __forceinline__ float at(int row, int column, int channel) const {
    if (row >= WIDTH - 1) return to_float(mixed[(u64)(row - (WIDTH - 1)) * apart + column]);
    return has_tail ? to_float(tail[row * channels + channel]) : 0.0f;
  }

  __device__ __forceinline__ float convolved(const float* filter, int row, int column, int channel) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
      sum = fmaf(filter[i * channels + channel], at(row + i, column, channel), sum);
    return sum * sigmoid(sum);
  }
};

__device__ __forceinline__ Seen seen_of(const Entered& in, Sizes sizes, const Number* tail, int has_state) {
  return {in.mixed + in.mixed_at, tail, in.mixed_apart, sizes.channels(), has_state != 0};
}

/// A token's query and key, normalized, and their product: a warp.
__device__ __forceinline__ float normalized(const Seen& seen, const float* filter, int row, Places p,
                                            int key_head, Sizes sizes, float* query, float* key) {
  const int lane = threadIdx.x % 32;
  const int first = key_head * KEY_DIM, second = first + sizes.key_heads * KEY_DIM;
  float qq = 0, kk = 0, both = 0;
  // Not unrolled, or the numbers of all of them are on their way at once, beside a part of the state. A lane reads
  // what it wrote.
#pragma unroll 1
  for (int c = lane; c < KEY_DIM; c += 32) {
    const float q = seen.convolved(filter, row, p.query + c, first + c);
    const float k = seen.convolved(filter, row, p.key + c, second + c);
    qq = fmaf(q, q, qq);
    kk = fmaf(k, k, kk);
    both = fmaf(q, k, both);
    query[c] = q;
    key[c] = k;
  }
  const float by_q = rsqrtf(warp_sum(qq) + 1e-6f) * rsqrtf((float)KEY_DIM);
  const float by_k = rsqrtf(warp_sum(kk) + 1e-6f);
#pragma unroll 1
  for (int c = lane; c < KEY_DIM; c += 32) {
    query[c] *= by_q;
    key[c] *= by_k;
  }
  return warp_sum(both) * by_q * by_k;
}

/// What a token keeps of a head's state, and how much it learns.
__device__ __forceinline__ float2 gates(const Entered& in, u64 row, Places p, float decay, float step) {
  const float x = to_float(in.a[row * in.a_apart + in.a_at + p.a]) + step;
  const float softplus = fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
  return {expf(decay * softplus), sigmoid(to_float(in.b[row * in.b_apart + in.b_at + p.b]))};
}

/// A lane's part of a column: rows 16 j + 4 group + i.
struct Column {
  float m[EACH][4];
  /// The first row of a group, and of the column of the block.
  int group, own;

  __device__ __forceinline__ Column()
      : group(4 * (threadIdx.x % 32 / 8)), own(threadIdx.x / 32 * 8 + threadIdx.x % 8) {}

  /// `from` is a head's matrix, at the block's first column; zeros if there is none.
  __device__ __forceinline__ void load(const float* from, bool is_there) {
#pragma unroll
    for (int j = 0; j < EACH; j++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        m[j][i] = is_there ? from[(16 * j + group + i) * VALUE_DIM + own] : 0.0f;
  }

  __device__ __forceinline__ void store(float* to) const {
#pragma unroll
    for (int j = 0; j < EACH; j++)
#pragma unroll
      for (int i = 0; i < 4; i++) to[(16 * j + group + i) * VALUE_DIM + own] = m[j][i];
  }

  /// A token changes the column and reads it.
  __device__ __forceinline__ float token(const float* key, const float* query, float value, float kept,
                                         float learned, float alike) {
    float by_key[2] = {0, 0}, by_query[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const float4 k = *(const float4*)&key[16 * j + group], q = *(const float4*)&query[16 * j + group];
      float &bk = by_key[j % 2], &bq = by_query[j % 2];
      bk = fmaf(m[j][3], k.w, fmaf(m[j][2], k.z, fmaf(m[j][1], k.y, fmaf(m[j][0], k.x, bk))));
      bq = fmaf(m[j][3], q.w, fmaf(m[j][2], q.z, fmaf(m[j][1], q.y, fmaf(m[j][0], q.x, bq))));
    }
    float found = by_key[0] + by_key[1], read = by_query[0] + by_query[1];
#pragma unroll
    for (int d = 8; d < 32; d <<= 1) {
      found += __shfl_xor_sync(~0u, found, d);
      read += __shfl_xor_sync(~0u, read, d);
    }
    const float change = learned * fmaf(-kept, found, value);
#pragma unroll
    for (int j = 0; j < EACH; j++) {
      const float4 k = *(const float4*)&key[16 * j + group];
      m[j][0] = fmaf(k.x, change, m[j][0] * kept);
      m[j][1] = fmaf(k.y, change, m[j][1] * kept);
      m[j][2] = fmaf(k.z, change, m[j][2] * kept);
      m[j][3] = fmaf(k.w, change, m[j][3] * kept);
    }
    return fmaf(alike, change, kept * read);
  }
};

/// What a token's norm and gate make of what it read: a warp.
__device__ __forceinline__ void finish(const float* read, const Number* z, const float* norm, float eps,
                                       Number* out) {
  const int lane = threadIdx.x % 32;
  float square = 0;
  for (int i = lane; i < VALUE_DIM; i += 32) square = fmaf(read[i], read[i], square);
  const float by = rsqrtf(warp_sum(square) / VALUE_DIM + eps);
  for (int i = lane; i < VALUE_DIM; i += 32) {
    const float gate = to_float(z[i]);
    out[i] = to_number(read[i] * by * norm[i] * (gate * sigmoid(gate)));
  }
}

/// The tail behind `count` rows, the channels of the whole net, by `threads` threads from `thread` on.
__device__ __forceinline__ void keep_tail(const Seen& seen, Sizes sizes, int count, Number* to, int thread,
                                          int threads) {
  for (int at = thread; at < (WIDTH - 1) * seen.channels; at += threads) {
    const int row = at / seen.channels, channel = at % seen.channels;
    int column = channel;
#ifdef BY_KEY_HEAD
    const int shared = sizes.heads / sizes.key_heads, keys = sizes.key_heads * KEY_DIM;
    const int head = channel < 2 * keys ? channel % keys / KEY_DIM * shared : (channel - 2 * keys) / VALUE_DIM;
    const Places p = places(head, sizes);
    column = channel < keys       ? p.query + channel % KEY_DIM
             : channel < 2 * keys ? p.key + channel % KEY_DIM
                                  : p.value + (channel - 2 * keys) % VALUE_DIM;
#endif
    to[at] = to_number(seen.at(count + row, column, channel));
  }
}

#define ENTERED                                                                                            \
  const Number *mixed, const Number *z, const Number *b, const Number *a, const float *filter,             \
      const float *decay, const float *step
#define PLACES                                                                                             \
  int mixed_at, int mixed_apart, int z_at, int z_apart, int b_at, int b_apart, int a_at, int a_apart
#define ENTERED_OF                                                                                         \
  { mixed, z, b, a, mixed_at, mixed_apart, z_at, z_apart, b_at, b_apart, a_at, a_apart }

#ifdef FEW
/// Few rows: a block a head, `COLS == VALUE_DIM`.
extern "C" __global__ void __launch_bounds__(4 * COLS, 1) delta_few(
    ENTERED, const Number* tail, const float* state, const float* norm, Number* out, Number* tail_behind,
    float* state_behind, int rows, int heads, int key_heads, int has_state, float eps, PLACES) {
  constexpr int WARPS = COLS / 8;
  __shared__ __align__(16) float queries[TOKENS][KEY_DIM], keys[TOKENS][KEY_DIM];
  __shared__ float values[TOKENS][COLS], reads[TOKENS][COLS], kept[TOKENS], learned[TOKENS], alike[TOKENS];
  const Entered in = ENTERED_OF;
  const Sizes sizes = {heads, key_heads};
  const Seen seen = seen_of(in, sizes, tail, has_state);
  const int head = blockIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const Places p = places(head, sizes);
  const int channel = 2 * key_heads * KEY_DIM + head * VALUE_DIM;
  const u64 matrix = (u64)head * KEY_DIM * VALUE_DIM;
  Column column;
  column.load(state + matrix, has_state);
  for (int done = 0; done < rows; done += TOKENS) {
    const int count = min(TOKENS, rows - done);
    for (int token = warp; token < count; token += WARPS) {
      const int key_head = head / (heads / key_heads);
      const float both =
          normalized(seen, filter, done + token, p, key_head, sizes, queries[token], keys[token]);
      if (lane == 0) {
        const float2 g = gates(in, done + token, p, decay[head], step[head]);
        kept[token] = g.x;
        learned[token] = g.y;
        alike[token] = both;
      }
    }
    for (int at = threadIdx.x; at < count * COLS; at += 4 * COLS) {
      const int token = at / COLS, c = at % COLS;
      values[token][c] = seen.convolved(filter, done + token, p.value + c, channel + c);
    }
    __syncthreads();
    for (int t = 0; t < count; t++) {
      const float read =
          column.token(keys[t], queries[t], values[t][column.own], kept[t], learned[t], alike[t]);
      if (column.group == 0) reads[t][column.own] = read;
    }
    __syncthreads();
    for (int token = warp; token < count; token += WARPS) {
      const u64 row = done + token;
      finish(reads[token], z + row * z_apart + z_at + p.z, norm, eps, out + (row * heads + head) * VALUE_DIM);
    }
    __syncthreads();
  }
  column.store(state_behind + matrix);
  keep_tail(seen, sizes, rows, tail_behind, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
}
#else
/// What many rows bring: a block of 256 threads a row. Queries, keys and values `[rows, channels]`; what is kept, how
/// much is learned and keys times queries, `[rows, heads, 4]`.
extern "C" __global__ void __launch_bounds__(256, 1) delta_prepare(
    ENTERED, const Number* tail, float* brought, float* told, int heads, int key_heads, int has_state, PLACES) {
  const Entered in = ENTERED_OF;
  const Sizes sizes = {heads, key_heads};
  const Seen seen = seen_of(in, sizes, tail, has_state);
  const int row = blockIdx.x, lane = threadIdx.x % 32, shared = heads / key_heads;
  float* to = brought + (u64)row * seen.channels;
#pragma unroll 1
  for (int key_head = threadIdx.x / 32; key_head < key_heads; key_head += 8) {
    const Places p = places(key_head * shared, sizes);
    float* query = to + key_head * KEY_DIM;
    float* key = query + key_heads * KEY_DIM;
    const float both = normalized(seen, filter, row, p, key_head, sizes, query, key);
    for (int head = key_head * shared + lane; head < (key_head + 1) * shared; head += 32)
      told[((u64)row * heads + head) * 4 + 2] = both;
  }
  for (int head = threadIdx.x; head < heads; head += 256) {
    const float2 g = gates(in, row, places(head, sizes), decay[head], step[head]);
    *(float2*)&told[((u64)row * heads + head) * 4] = g;
  }
  const int first = 2 * key_heads * KEY_DIM;
#pragma unroll 1
  for (int c = threadIdx.x; c < heads * VALUE_DIM; c += 256) {
    const Places p = places(c / VALUE_DIM, sizes);
    to[first + c] = seen.convolved(filter, row, p.value + c % VALUE_DIM, first + c);
  }
}

__device__ __forceinline__ void copy_async(void* to, const void* from) {
  const u32 shared = (u32)__cvta_generic_to_shared(to);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(from));
}

struct __align__(16) Chunk {
  float queries[TOKENS][KEY_DIM], keys[TOKENS][KEY_DIM], values[TOKENS][COLS], told[TOKENS][4];
};

/// The rule on what `delta_prepare` made; what is read, float32 `[rows, heads * VALUE_DIM]`. Also the state behind
/// the first `aligned` rows, if that is not zero: a chunk ends there.
extern "C" __global__ void __launch_bounds__(4 * COLS, 1) delta_many(
    const float* brought, const float* told, const float* state, float* read, float* state_behind,
    float* state_aligned, int rows, int heads, int key_heads, int has_state, int aligned) {
  extern __shared__ __align__(16) char memory[];
  Chunk* chunks = (Chunk*)memory;
  const Sizes sizes = {heads, key_heads};
  const int head = blockIdx.x, first = blockIdx.y * COLS, key_head = head / (heads / key_heads);
  const int channels = sizes.channels();
  const u64 matrix = (u64)head * KEY_DIM * VALUE_DIM + first;
  // Chunk `i` begins at row `lead + i * TOKENS`, the first one perhaps before the first row.
  const int lead = aligned % TOKENS == 0 ? 0 : aligned % TOKENS - TOKENS;
  const int count = (rows - lead + TOKENS - 1) / TOKENS;
  const auto fetch = [&](int i) {
    Chunk& to = chunks[i % 2];
    constexpr int KEYS = KEY_DIM / 4, VALUES = COLS / 4, ALL = 2 * KEYS + VALUES + 1;
    for (int at = threadIdx.x; at < TOKENS * ALL; at += 4 * COLS) {
      const int t = at / ALL, c = at % ALL, row = lead + i * TOKENS + t;
      if (row < 0 || row >= rows) continue;
      const float* from = brought + (u64)row * channels;
      const float* query = from + key_head * KEY_DIM;
      if (c < KEYS)
        copy_async(&to.queries[t][4 * c], query + 4 * c);
      else if (c < 2 * KEYS)
        copy_async(&to.keys[t][4 * (c - KEYS)], query + key_heads * KEY_DIM + 4 * (c - KEYS));
      else if (c < 2 * KEYS + VALUES)
        copy_async(&to.values[t][4 * (c - 2 * KEYS)],
                   from + 2 * key_heads * KEY_DIM + head * VALUE_DIM + first + 4 * (c - 2 * KEYS));
      else
        copy_async(&to.told[t][0], told + ((u64)row * heads + head) * 4);
    }
    asm volatile("cp.async.commit_group;");
  };
  Column column;
  column.load(state + matrix, has_state);
  fetch(0);
  for (int i = 0; i < count; i++) {
    if (i + 1 < count) {
      fetch(i + 1);
      asm volatile("cp.async.wait_group 1;");
    } else {
      asm volatile("cp.async.wait_group 0;");
    }
    __syncthreads();
    const Chunk& now = chunks[i % 2];
    const int done = lead + i * TOKENS, stop = min(TOKENS, rows - done);
    for (int t = max(0, -done); t < stop; t++) {
      const float4 g = *(const float4*)&now.told[t][0];
      const float x = column.token(now.keys[t], now.queries[t], now.values[t][column.own], g.x, g.y, g.z);
      if (column.group == 0) read[((u64)(done + t) * heads + head) * VALUE_DIM + first + column.own] = x;
    }
    if (done + stop == aligned) column.store(state_aligned + matrix);
    __syncthreads();
  }
  column.store(state_behind + matrix);
}

/// The gated norm of what many rows read, a warp a head; and the tails.
extern "C" __global__ void __launch_bounds__(128) delta_norm(
    const float* read, const Number* mixed, const Number* z, const Number* tail, const float* norm, Number* out,
    Number* tail_behind, Number* tail_aligned, int rows, int heads, int key_heads, int has_state, int aligned,
    float eps, int mixed_at, int mixed_apart, int z_at, int z_apart) {
  const Sizes sizes = {heads, key_heads};
  const int at = blockIdx.x * 4 + threadIdx.x / 32;
  if (at < rows * heads) {
    const Places p = places(at % heads, sizes);
    const u64 to = (u64)at * VALUE_DIM;
    finish(read + to, z + (u64)(at / heads) * z_apart + z_at + p.z, norm, eps, out + to);
  }
  const Seen seen = {mixed + mixed_at, tail, mixed_apart, sizes.channels(), has_state != 0};
  const int thread = blockIdx.x * 128 + threadIdx.x, threads = gridDim.x * 128;
  keep_tail(seen, sizes, rows, tail_behind, thread, threads);
  if (aligned > 0) keep_tail(seen, sizes, aligned, tail_aligned, thread, threads);
}
#endif
