// Attention of a token, a thread block a key-value head and a part of its keys (flash decoding,
// arXiv:2205.14135 with the keys split over blocks). How keys are split depends on their number alone, so that
// a token's bits do not depend on how many tokens go through together. The block that has the new token's place also
// writes its key and value into the cache. Keys are cached rotated, so their order does not matter
// and a ring is read as it lies.

struct Context {
    int place;               // where its key and value go
    int held;                // keys, the new one included
    int capacity;            // places of the buffers
    const float2* rotation;  // cosine and sine of each plane
    float score_scale;
    u64 keys, values;        // addresses of the buffers
};

/// The `number`th part of a token's attention: a head and its keys [begin, end). Behind the last part the head
/// is KV_HEADS or more.
struct Part {
    int splits, head, split, begin, end;

    /// Keys are split so that most blocks have some, but each warp 16, which it reads at a time.
    static __device__ __forceinline__ int splits_of(int held) {
        return smaller(MOST_SPLITS, (held + 16 * KEY_WARPS - 1) / (16 * KEY_WARPS));
    }

    __device__ __forceinline__ Part(int held, int number) : splits(splits_of(held)) {
        int each = (held + splits - 1) / splits;
        head = number / splits;
        split = number % splits;
        begin = split * each;
        end = smaller(begin + each, held);
    }
};

/// Cosine and sine of every plane at `position`. The angle is reduced in float64, so it is exact at
/// every position.
__device__ __forceinline__ void rotation_at(int position, float scale, const float* periods, float2* to) {
    for (int i = threadIdx.x; i < HEAD_DIM / 2; i += THREADS) {
        double half_turns = (double)position * scale / (3.14159265358979323846 * (double)__ldg(periods + i));
        half_turns -= 2.0 * rint(half_turns * 0.5);
        sincospif((float)half_turns, &to[i].y, &to[i].x);
    }
}

/// Has a part's keys and values brought into the second-level cache. One lane a warp, since lanes
/// issue such prefetches one after another.
__device__ __forceinline__ void prefetch_part(const Context& context, const Part& part) {
    constexpr int ROW = HEAD_DIM * 2;
    if (part.head >= KV_HEADS || threadIdx.x % 32 != 0) return;
    int each = (part.end - part.begin + WARPS - 1) / WARPS;
    int begin = part.begin + threadIdx.x / 32 * each, end = smaller(begin + each, part.end);
    if (begin >= end) return;
    u64 offset = ((u64)part.head * context.capacity + begin) * ROW;
    prefetch_bytes(context.keys + offset, (end - begin) * ROW);
    prefetch_bytes(context.values + offset, (end - begin) * ROW);
}

/// Sums the parts of row `row` of `HEAD_DIM`, and its part of the biases that begin at `bias`, in the lanes
/// of a warp: element lane + 32 i.
__device__ __forceinline__ void load_head(const float* qkv, int row, u64 bias, int of_bias, float (&x)[HEAD_DIM / 32]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 32; i++) {
        x[i] = 0.0f;
#pragma unroll
        for (int p = 0; p < Product<QKV>::PARTIALS; p++) {
            // Read in any case, so that all of a thread's reads are under way at once.
            const float part = row_sum<QKV, float>(qkv, p, row + lane + 32 * i);
            x[i] += !MANY || has_part<QKV>(p, row + lane + 32 * i) ? part : 0.0f;
        }
        if (QKV_BIASES) x[i] += bf16(__ldg(reinterpret_cast<const u16*>(bias) + of_bias + lane + 32 * i));
    }
}

/// Normalizes, with HEAD_NORMS, and rotates a head: the plane of element i is (i, i + HEAD_DIM / 2).
__device__ __forceinline__ void normalize_and_rotate(float (&x)[HEAD_DIM / 32], const u16* weight, const Context& context) {
    const int lane = threadIdx.x % 32;
    constexpr int HALF = HEAD_DIM / 64;
    if (HEAD_NORMS) {
        float squares = 0.0f;
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 32; i++) squares = __fmaf_rn(x[i], x[i], squares);
        float scale = rsqrtf(warp_sum(squares) / HEAD_DIM + EPS);
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 32; i++) x[i] *= scale * bf16(__ldg(weight + lane + 32 * i));
    }
#pragma unroll
    for (int i = 0; i < HALF; i++) {
        float2 turn = context.rotation[lane + 32 * i];
        float a = x[i], b = x[i + HALF];
        x[i] = __fmaf_rn(a, turn.x, -__fmul_rn(b, turn.y));
        x[i + HALF] = __fmaf_rn(b, turn.x, __fmul_rn(a, turn.y));
    }
}

/// Loads head `i` of those to prepare for a key-value head: a query, or, for REPEAT and the next, key and value.
__device__ __forceinline__ void load_prepared(const float* qkv, const u64* words, int head, int i, float (&x)[HEAD_DIM / 32]) {
    auto bias = [&](int word) { return QKV_BIASES ? words[word - INPUT_NORM] : 0; };
    const bool value = i > REPEAT;
    if (i < REPEAT) {
        const int row = (head * REPEAT + i) * HEAD_DIM;
        load_head(qkv, row, bias(QUERY_BIAS), row, x);
    } else {
        const int row = head * HEAD_DIM;
        load_head(qkv, QUERY_ROWS + (value ? KEY_ROWS : 0) + row, bias(value ? VALUE_BIAS : KEY_BIAS), row, x);
    }
}

/// Query `i` into shared memory, ready for base-2 scores, or the new token's key and its value into the cache.
__device__ __forceinline__ void put_prepared(const u64* words, const Context& context, int head, int i,
                                             float (&x)[HEAD_DIM / 32], u16* queries) {
    const int lane = threadIdx.x % 32;
    if (i < REPEAT) {
        normalize_and_rotate(x, reinterpret_cast<const u16*>(words[QUERY_NORM - INPUT_NORM]), context);
        float scale = context.score_scale * 1.4426950408889634f;
        u16* to = queries + i * QUERY_STRIDE + lane / 8 * 16 + lane % 8;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 32; j++) {
            u16 high = to_bf16(x[j] * scale);
            to[64 * j] = high;
            to[64 * j + 8] = to_bf16(x[j] * scale - bf16(high));
        }
    } else {
        bool value = i > REPEAT;
        if (!value) normalize_and_rotate(x, reinterpret_cast<const u16*>(words[KEY_NORM - INPUT_NORM]), context);
        u16* to = reinterpret_cast<u16*>(value ? context.values : context.keys) +
                  ((u64)head * context.capacity + context.place) * HEAD_DIM;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 32; j++) to[lane + 32 * j] = to_bf16(x[j]);
    }
}

/// A warp's part in preparing one key-value head.
__device__ __forceinline__ void prepare_head(const float* qkv, const u64* words, const Context& context, int head,
                                             int i, u16* queries) {
    float x[HEAD_DIM / 32];
    load_prepared(qkv, words, head, i, x);
    put_prepared(words, context, head, i, x, queries);
}

/// How many `i` there are to prepare for a part: key and value are its own where their place is in it.
__device__ __forceinline__ int heads_of(const Context& context, const Part& part) {
    return REPEAT + (context.place >= part.begin && context.place < part.end ? 2 : 0);
}

/// Softmax so far of head lane / 4: the maximum, this lane's part of the sum of weights, and the
/// weighted sum of values in the rows of products, see `attend`.
struct Running {
    float most, sum, mixed[VALUE_TILES][4];

    __device__ __forceinline__ void clear() {
        most = -1e30f, sum = 0.0f;
#pragma unroll
        for (int i = 0; i < VALUE_TILES; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) mixed[i][j] = 0.0f;
    }
};

/// A score, times log2 e, in the range of SCORE_CAP.
__device__ __forceinline__ float squashed(float score) {
    if (SCORE_CAP == 0.0f) return score;
    // tanh x is 1 - 2 / (e^2x + 1).
    float power = exp2_fast(score * (SCORE_CAP == 0.0f ? 0.0f : 2.0f / SCORE_CAP));
    return SCORE_CAP * 1.4426950408889634f * (1.0f - __fdividef(2.0f, power + 1.0f));
}

// Of 16 keys from `base` on, of which those behind the end are read as the last one.
//
// The heads that share keys are rows of A. A query has more digits than bfloat16, so it is the sum
// of two: rows 0 to 7 have the upper, rows 8 to 15 the lower parts of the same heads, and the same
// holds for the softmax weights. What enters B lies in memory as it is wanted: of a key, 16 bytes a
// lane; of values, 16 bytes of four keys, whose elements are exchanged to pairs of keys.

/// Whose scores are 2 column and the next for n 0, and the same behind 8 for n 1.
struct Keys {
    static constexpr int CHUNKS = HEAD_DIM / 32;
    uint4 k[2][CHUNKS];

    __device__ __forceinline__ void load(const uint4* keys, int base, int end) {
        constexpr int ROW = HEAD_DIM / 8;
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const uint4* from = keys + (u64)smaller(base + 8 * n + row, end - 1) * ROW + column;
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) k[n][c] = from[4 * c];
        }
    }
    /// Base-2 scores; keys behind the end have none.
    __device__ __forceinline__ void score(const u16* queries, int base, int end, float (&score)[4]) const {
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4;
        const uint4* query = reinterpret_cast<const uint4*>(queries + row * QUERY_STRIDE) + 2 * column;
        const uint4 zero = make_uint4(0, 0, 0, 0);
        float c[2][4] = {};
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            uint4 high = row < REPEAT ? query[8 * i] : zero, low = row < REPEAT ? query[8 * i + 1] : zero;
#pragma unroll
            for (int n = 0; n < 2; n++) {
                multiply(c[n], high.x, low.x, high.y, low.y, k[n][i].x, k[n][i].y);
                multiply(c[n], high.z, low.z, high.w, low.w, k[n][i].z, k[n][i].w);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float s = squashed(c[i >> 1][i & 1] + c[i >> 1][2 + (i & 1)]);
            score[i] = base + 2 * column + (i & 1) + (i >> 1) * 8 < end ? s : -1e38f;
        }
    }
};

struct Values {
    static constexpr int PARTS = VALUE_TILES / 8;
    u32 v[PARTS][4][4];

    /// `values`: of the head, from this side of it on.
    __device__ __forceinline__ void load(const uint4* values, int base, int end) {
        constexpr int ROW = HEAD_DIM / 8;
        const int row = threadIdx.x % 32 / 4, column = threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int key = smaller(base + 2 * column + (i & 1) + (i >> 1) * 8, end - 1);
            const uint4* from = values + row + (u64)key * ROW;
#pragma unroll
            for (int p = 0; p < PARTS; p++) {
                uint4 x = from[8 * p];
                v[p][i][0] = x.x, v[p][i][1] = x.y, v[p][i][2] = x.z, v[p][i][3] = x.w;
            }
        }
    }
    /// Adds them by their scores.
    __device__ __forceinline__ void add_to(Running& state, float (&score)[4]) const {
        float most = state.most;
#pragma unroll
        for (int i = 0; i < 4; i++) most = fmaxf(most, score[i]);
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        float shrink = exp2_fast(state.most - most);
        state.most = most;
        state.sum *= shrink;
        if (__any_sync(~0u, shrink != 1.0f)) {
#pragma unroll
            for (int i = 0; i < VALUE_TILES; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) state.mixed[i][j] *= shrink;
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            score[i] = exp2_fast(score[i] - most);
            state.sum += score[i];
        }
        u32 high0 = to_bf16x2(score[0], score[1]), high1 = to_bf16x2(score[2], score[3]);
        u32 low0 = to_bf16x2(score[0] - bf16_low(high0), score[1] - bf16_high(high0));
        u32 low1 = to_bf16x2(score[2] - bf16_low(high1), score[3] - bf16_high(high1));
#pragma unroll
        for (int p = 0; p < PARTS; p++)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const u32 pick = j % 2 == 0 ? 0x5410 : 0x7632;
                u32 b0 = __byte_perm(v[p][0][j / 2], v[p][1][j / 2], pick);
                u32 b1 = __byte_perm(v[p][2][j / 2], v[p][3][j / 2], pick);
                multiply(state.mixed[8 * p + j], high0, low0, high1, low1, b0, b1);
            }
    }
};

/// This warp's share of the keys [begin, end), 16 at a time, on the matrix units.
__device__ __forceinline__ void attend(const uint4* keys, const uint4* values, int begin, int end,
                                       const u16* queries, Running& state) {
    const int warp = threadIdx.x / 32;
    const uint4* values_here = values + warp % VALUE_SIDES * VALUE_TILES;
#pragma unroll 1
    for (int base = begin + warp / VALUE_SIDES * 16; base < end; base += KEY_WARPS * 16) {
        Keys k;
        k.load(keys, base, end);
        Values v;
        v.load(values_here, base, end);
        float score[4];
        k.score(queries, base, end, score);
        v.add_to(state, score);
    }
}

/// Where element `i` of what a warp has mixed lies: lanes that write together, four elements each, have them in
/// different banks.
__device__ __forceinline__ int in_banks(int i) { return i ^ (i >> 5 & 1) << 2 ^ (i >> 7 & 1) << 3; }

/// Brings all warps to one maximum and adds: leaves the sum of `mixed`, head by head, in `parts`, and
/// each head's maximum and sum of weights in `part_scales`.
__device__ __forceinline__ void combine_warps(Running& state, float* of_warps, float2* scales, float* parts,
                                              float2* part_scales) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
    const int group = warp / VALUE_SIDES, side = warp % VALUE_SIDES;
    state.sum += __shfl_xor_sync(~0u, state.sum, 1);
    state.sum += __shfl_xor_sync(~0u, state.sum, 2);
    if (column == 0 && side == 0 && row < REPEAT) scales[group * REPEAT + row] = make_float2(state.most, state.sum);
    __syncthreads();
    if (row < REPEAT) {
        float most = -1e30f;
#pragma unroll
        for (int w = 0; w < KEY_WARPS; w++) most = fmaxf(most, scales[w * REPEAT + row].x);
        float shrink = exp2_fast(state.most - most);
        // The product's column of element 8 i + j of a part is i: this lane has two columns.
        const int at = row * HEAD_DIM + side * 8 * VALUE_TILES + 16 * column;
#pragma unroll
        for (int p = 0; p < VALUE_TILES / 8; p++)
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 8; j += 4) {
                    float4 x;
                    const float(*m)[4] = state.mixed + 8 * p + j;
                    x.x = (m[0][i] + m[0][i + 2]) * shrink;
                    x.y = (m[1][i] + m[1][i + 2]) * shrink;
                    x.z = (m[2][i] + m[2][i + 2]) * shrink;
                    x.w = (m[3][i] + m[3][i + 2]) * shrink;
                    *reinterpret_cast<float4*>(of_warps + group * WIDTH + in_banks(at + 64 * p + 8 * i + j)) = x;
                }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < KEY_WARPS; w++) sum += of_warps[w * WIDTH + in_banks(i)];
        parts[i] = sum;
    }
    if (threadIdx.x < REPEAT) {
        float most = -1e30f, sum = 0.0f;
        for (int w = 0; w < KEY_WARPS; w++) most = fmaxf(most, scales[w * REPEAT + threadIdx.x].x);
        for (int w = 0; w < KEY_WARPS; w++) {
            float2 other = scales[w * REPEAT + threadIdx.x];
            sum = __fmaf_rn(other.y, exp2_fast(other.x - most), sum);
        }
        part_scales[threadIdx.x] = make_float2(most, sum);
    }
}

/// The keys and values of a part, by all warps, into its place among those of its head.
__device__ __forceinline__ void attend_keys(const Context& context, const Part& part, u32* scratch,
                                            unsigned char* shared, const u16* queries, Timeline& timeline) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    float* of_warps = reinterpret_cast<float*>(shared);
    float2* scales = reinterpret_cast<float2*>(of_warps + KEY_WARPS * WIDTH);
    Running state;
    state.clear();
    u64 of_head = (u64)part.head * context.capacity * (HEAD_DIM / 8);
    attend(reinterpret_cast<const uint4*>(context.keys) + of_head, reinterpret_cast<const uint4*>(context.values) + of_head,
           part.begin, part.end, queries, state);
    timeline.mark();
    const int place = part.head * MOST_SPLITS + part.split;
    combine_warps(state, of_warps, scales, reinterpret_cast<float*>(scratch + AT_PARTS) + place * WIDTH,
                  reinterpret_cast<float2*>(scratch + AT_PART_SCALES) + place * REPEAT);
    timeline.mark();
}

/// Element `i` of a head's `parts` together, `of_parts` being their maxima and sums of weights.
__device__ __forceinline__ u16 combined(const float* parts, const float2* of_parts, int splits, int i) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    const int r = i / HEAD_DIM;
    float most = -1e30f, sum = 0.0f, x = 0.0f;
    for (int s = 0; s < splits; s++) most = fmaxf(most, of_parts[s * REPEAT + r].x);
    for (int first = 0; first < splits; first += 8) {
        // Eight loads under way at a time.
        float value[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            value[j] = first + j < splits ? shared_read(parts + (first + j) * WIDTH + i) : 0.0f;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (first + j >= splits) break;
            float2 scale = of_parts[(first + j) * REPEAT + r];
            float weight = exp2_fast(scale.x - most);
            sum = __fmaf_rn(weight, scale.y, sum);
            x = __fmaf_rn(weight, value[j], x);
        }
    }
    return to_bf16(x / sum);
}

/// All parts of a head together, into the permuted input of the output projection.
__device__ __forceinline__ void combine_parts(const Part& part, u32* scratch, unsigned char* shared) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    const int head = part.head, splits = part.splits;
    float2* of_parts = reinterpret_cast<float2*>(shared) + KEY_WARPS * (WIDTH / 2 + REPEAT);
    const float* parts = reinterpret_cast<const float*>(scratch + AT_PARTS) + head * MOST_SPLITS * WIDTH;
    const float2* part_scales = reinterpret_cast<const float2*>(scratch + AT_PART_SCALES) + head * MOST_SPLITS * REPEAT;
    for (int i = threadIdx.x; i < splits * REPEAT; i += THREADS) of_parts[i] = shared_read(part_scales + i);
    __syncthreads();
    u16* mixed = reinterpret_cast<u16*>(scratch + AT_MIXED);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS)
        mixed[permuted<BITS>(head * WIDTH + i)] = combined(parts, of_parts, splits, i);
}

/// A part for this block, and, in the last block of a head, all parts together. `words` are the layer's.
__device__ __forceinline__ void attend_part(const u64* words, const Context& context, const Part& part, u32* scratch,
                                            unsigned char* shared, u32* flag, Timeline& timeline) {
    u16* queries = reinterpret_cast<u16*>(shared + AT_QUERIES);
    if (part.head >= KV_HEADS) {
        for (int skipped = 0; skipped < 3; skipped++) timeline.mark();
        return;
    }
    const float* qkv = reinterpret_cast<const float*>(scratch + AT_QKV);
    for (int i = threadIdx.x / 32; i < heads_of(context, part); i += WARPS)
        prepare_head(qkv, words, context, part.head, i, queries);
    __syncthreads();
    timeline.mark();
    attend_keys(context, part, scratch, shared, queries, timeline);
    if (last_of(scratch + AT_HEAD_COUNTERS + part.head, part.splits, flag)) combine_parts(part, scratch, shared);
}
