// Attention of one token, a thread block a key-value head and a part of its keys (flash decoding,
// arXiv:2205.14135 with the keys split over blocks). The block that has the new token's place also
// writes its key and value into the cache. Keys are cached rotated, so their order does not matter
// and a ring is read as it lies.

struct Context {
    int place;               // where its key and value go
    int held;                // keys, the new one included
    int capacity;            // places of the buffers
    const float2* rotation;  // cosine and sine of each plane
    float score_scale;
    u64 keys, values;        // addresses of the buffers

    /// Keys are split so that most blocks have some, but at least 32: fewer would not be worth
    /// combining.
    __device__ __forceinline__ int splits() const {
        return smaller(smaller(GRID / KV_HEADS, MAX_SPLITS), (held + 31) / 32);
    }
};

/// A thread block's head and its keys [begin, end); a block without has the head KV_HEADS or more.
struct Part {
    int splits, head, split, begin, end;

    __device__ __forceinline__ explicit Part(const Context& context) : splits(context.splits()) {
        int each = (context.held + splits - 1) / splits;
        head = blockIdx.x / splits;
        split = blockIdx.x % splits;
        begin = split * each;
        end = smaller(begin + each, context.held);
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

/// Has this block's keys and values brought into the second-level cache.
__device__ __forceinline__ void prefetch_part(const Context& context) {
    Part part(context);
    constexpr int PIECES_OF_PART = 64, ROW = HEAD_DIM * 2;
    if (part.head >= KV_HEADS || threadIdx.x >= 2 * PIECES_OF_PART) return;
    int each = (part.end - part.begin + PIECES_OF_PART - 1) / PIECES_OF_PART;
    int begin = part.begin + threadIdx.x % PIECES_OF_PART * each, end = smaller(begin + each, part.end);
    u64 at = (threadIdx.x < PIECES_OF_PART ? context.keys : context.values) + ((u64)part.head * context.capacity + begin) * ROW;
    if (begin < end) prefetch_bytes(at, (end - begin) * ROW);
}

/// Sums the parts of row `row` of `HEAD_DIM` in the lanes of a warp: element lane + 32 i.
__device__ __forceinline__ void load_head(const float* qkv, int row, float (&x)[HEAD_DIM / 32]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 32; i++) {
        x[i] = 0.0f;
#pragma unroll
        for (int p = 0; p < Product<QKV>::PARTIALS; p++)
            x[i] += shared_read(qkv + p * QKV_ROWS + row + lane + 32 * i);
    }
}

/// Normalizes and rotates a head: the plane of element i is (i, i + HEAD_DIM / 2).
__device__ __forceinline__ void normalize_and_rotate(float (&x)[HEAD_DIM / 32], const u16* weight, const Context& context) {
    const int lane = threadIdx.x % 32;
    constexpr int HALF = HEAD_DIM / 64;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 32; i++) squares += x[i] * x[i];
    float scale = rsqrtf(warp_sum(squares) / HEAD_DIM + EPS);
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 32; i++) x[i] *= scale * bf16(__ldg(weight + lane + 32 * i));
#pragma unroll
    for (int i = 0; i < HALF; i++) {
        float2 turn = context.rotation[lane + 32 * i];
        float a = x[i], b = x[i + HALF];
        x[i] = a * turn.x - b * turn.y;
        x[i + HALF] = b * turn.x + a * turn.y;
    }
}

/// Queries of one key-value head into shared memory, ready for base-2 scores; and, where the new
/// token's place is in [begin, end), its key and value into the cache. Ends synchronized.
__device__ __forceinline__ void prepare_heads(const float* qkv, const u64* words, const Context& context, int head,
                                              int begin, int end, float* queries) {
    const int lane = threadIdx.x % 32;
    bool owns = context.place >= begin && context.place < end;
    for (int i = threadIdx.x / 32; i < REPEAT + (owns ? 2 : 0); i += WARPS) {
        float x[HEAD_DIM / 32];
        if (i < REPEAT) {
            load_head(qkv, (head * REPEAT + i) * HEAD_DIM, x);
            normalize_and_rotate(x, reinterpret_cast<const u16*>(words[QUERY_NORM]), context);
            float scale = context.score_scale * 1.4426950408889634f;
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 32; j++) queries[i * HEAD_DIM + lane + 32 * j] = x[j] * scale;
        } else {
            bool value = i > REPEAT;
            load_head(qkv, QUERY_ROWS + (value ? KEY_ROWS : 0) + head * HEAD_DIM, x);
            if (!value) normalize_and_rotate(x, reinterpret_cast<const u16*>(words[KEY_NORM]), context);
            u16* to = reinterpret_cast<u16*>(value ? context.values : context.keys) +
                      ((u64)head * context.capacity + context.place) * HEAD_DIM;
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 32; j++) to[lane + 32 * j] = to_bf16(x[j]);
        }
    }
    __syncthreads();
}

/// Softmax so far of the heads that share keys: maximum and sum of weights of each, and this lane's
/// 8 elements of the weighted sum of values.
struct Running {
    float most[REPEAT], sum[REPEAT], mixed[REPEAT][8];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int r = 0; r < REPEAT; r++) {
            most[r] = -1e30f, sum[r] = 0.0f;
#pragma unroll
            for (int j = 0; j < 8; j++) mixed[r][j] = 0.0f;
        }
    }
};

/// This warp's share of the keys [begin, end). A key takes HEAD_DIM / 8 lanes.
__device__ __forceinline__ void attend(const uint4* keys, const uint4* values, int begin, int end,
                                       const float* queries, Running& state) {
    constexpr int LANES = HEAD_DIM / 8, SIDE = 32 / LANES, DEPTH = REPEAT > 4 ? 2 : 4;
    const int lane = threadIdx.x % 32, within = lane % LANES;
    int key = begin + threadIdx.x / 32 * SIDE + lane / LANES;
    // The lanes of a warp stay together, for the shuffles.
    for (int base = begin + threadIdx.x / 32 * SIDE; base < end; base += DEPTH * WARPS * SIDE) {
        uint4 k[DEPTH], v[DEPTH];
#pragma unroll
        for (int u = 0; u < DEPTH; u++) {
            k[u] = v[u] = make_uint4(0, 0, 0, 0);
            u64 at = (u64)(key + u * WARPS * SIDE) * LANES + within;
            if (key + u * WARPS * SIDE < end) k[u] = keys[at], v[u] = values[at];
        }
#pragma unroll
        for (int r = 0; r < REPEAT; r++) {
            float q[8], score[DEPTH], most = state.most[r];
            const float4* from = reinterpret_cast<const float4*>(queries + r * HEAD_DIM + within * 8);
            *reinterpret_cast<float4*>(q) = from[0];
            *reinterpret_cast<float4*>(q + 4) = from[1];
#pragma unroll
            for (int u = 0; u < DEPTH; u++) {
                float x[8];
                unpack8(k[u], x);
                float s = 0.0f;
#pragma unroll
                for (int j = 0; j < 8; j++) s += q[j] * x[j];
#pragma unroll
                for (int d = 1; d < LANES; d *= 2) s += __shfl_xor_sync(~0u, s, d);
                score[u] = key + u * WARPS * SIDE < end ? s : -1e38f;
                most = fmaxf(most, score[u]);
            }
            float shrink = exp2_fast(state.most[r] - most);
            state.most[r] = most;
            state.sum[r] *= shrink;
#pragma unroll
            for (int j = 0; j < 8; j++) state.mixed[r][j] *= shrink;
#pragma unroll
            for (int u = 0; u < DEPTH; u++) {
                float weight = exp2_fast(score[u] - most), x[8];
                unpack8(v[u], x);
                state.sum[r] += weight;
#pragma unroll
                for (int j = 0; j < 8; j++) state.mixed[r][j] += weight * x[j];
            }
        }
        key += DEPTH * WARPS * SIDE;
    }
}

/// Brings all lanes that hold the same elements, and then all warps, to one maximum, and adds.
/// Leaves the sum of `mixed` in `sum_of_warps`, head by head, and its maximum and sum of weights in
/// `scales`. Ends synchronized.
__device__ __forceinline__ void combine_warps(Running& state, float* sum_of_warps, float2* of_warps, float2* scales) {
    constexpr int LANES = HEAD_DIM / 8, WIDTH = REPEAT * HEAD_DIM;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int d = LANES; d < 32; d *= 2)
#pragma unroll
        for (int r = 0; r < REPEAT; r++) {
            float most = fmaxf(state.most[r], __shfl_xor_sync(~0u, state.most[r], d));
            float shrink = exp2_fast(state.most[r] - most);
            state.most[r] = most;
            state.sum[r] *= shrink;
            state.sum[r] += __shfl_xor_sync(~0u, state.sum[r], d);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float m = state.mixed[r][j] * shrink;
                state.mixed[r][j] = m + __shfl_xor_sync(~0u, m, d);
            }
        }
    if (lane == 0)
#pragma unroll
        for (int r = 0; r < REPEAT; r++) of_warps[warp * REPEAT + r] = make_float2(state.most[r], state.sum[r]);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < REPEAT; r++) {
        float most = -1e30f, sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) most = fmaxf(most, of_warps[w * REPEAT + r].x);
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            float2 other = of_warps[w * REPEAT + r];
            sum += other.y * exp2_fast(other.x - most);
        }
        float shrink = exp2_fast(state.most[r] - most);
#pragma unroll
        for (int j = 0; j < 8; j++) state.mixed[r][j] *= shrink;
        if (threadIdx.x == 0) scales[r] = make_float2(most, sum);
    }
    // Half of the warps leave their sums for the other half, to need half of the room.
    float4* mine = reinterpret_cast<float4*>(sum_of_warps + warp % HALF_WARPS * WIDTH + lane * 8);
#pragma unroll
    for (int half = 1; half >= 0; half--) {
        if (warp / HALF_WARPS == half && lane < LANES)
#pragma unroll
            for (int r = 0; r < REPEAT; r++) {
                float4* at = mine + r * HEAD_DIM / 4;
                float(&m)[8] = state.mixed[r];
                float4 a = make_float4(m[0], m[1], m[2], m[3]), b = make_float4(m[4], m[5], m[6], m[7]);
                if (half == 0) {
                    a.x += at[0].x, a.y += at[0].y, a.z += at[0].z, a.w += at[0].w;
                    b.x += at[1].x, b.y += at[1].y, b.z += at[1].z, b.w += at[1].w;
                }
                at[0] = a, at[1] = b;
            }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < HALF_WARPS; w++) sum += sum_of_warps[w * WIDTH + i];
        sum_of_warps[i] = sum;
    }
    __syncthreads();
}

/// The whole phase for this block: its keys' part, and, in the last block of a head, all parts
/// together, into `mixed`, the permuted input of the output projection.
__device__ __forceinline__ void attention(const u64* words, const Context& context, u32* scratch, float* shared, u32* flag,
                                          Timeline& timeline) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    const float* qkv = reinterpret_cast<const float*>(scratch + AT_QKV);
    float* queries = shared;
    float* sum_of_warps = queries + WIDTH;
    float2* of_warps = reinterpret_cast<float2*>(sum_of_warps + HALF_WARPS * WIDTH);

    float2* of_parts = of_warps + WARPS * REPEAT;

    Part part(context);
    if (part.head >= KV_HEADS) return;
    const int head = part.head, split = part.split, splits = part.splits, begin = part.begin, end = part.end;
    prepare_heads(qkv, words, context, head, begin, end, queries);
    timeline.mark();
    Running state;
    state.clear();
    u64 of_head = (u64)head * context.capacity * (HEAD_DIM / 8);
    attend(reinterpret_cast<const uint4*>(context.keys) + of_head, reinterpret_cast<const uint4*>(context.values) + of_head,
           begin, end, queries, state);
    timeline.mark();
    // The queries are done with once every warp has left its maximum; their place takes the scales.
    float2* scales = reinterpret_cast<float2*>(queries);
    combine_warps(state, sum_of_warps, of_warps, scales);

    timeline.mark();
    float* parts = reinterpret_cast<float*>(scratch + AT_PARTS) + head * MAX_SPLITS * WIDTH;
    float2* part_scales = reinterpret_cast<float2*>(scratch + AT_PART_SCALES) + head * MAX_SPLITS * REPEAT;
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) parts[split * WIDTH + i] = sum_of_warps[i];
    if (threadIdx.x < REPEAT) part_scales[split * REPEAT + threadIdx.x] = scales[threadIdx.x];
    if (!last_of(scratch + AT_HEAD_COUNTERS + head, splits, flag)) return;

    for (int i = threadIdx.x; i < splits * REPEAT; i += THREADS) of_parts[i] = shared_read(part_scales + i);
    __syncthreads();
    u16* mixed = reinterpret_cast<u16*>(scratch + AT_MIXED);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
        int r = i / HEAD_DIM;
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
                sum += weight * scale.y;
                x += weight * value[j];
            }
        }
        mixed[permuted<BITS>(head * WIDTH + i)] = to_bf16(x / sum);
    }
}
