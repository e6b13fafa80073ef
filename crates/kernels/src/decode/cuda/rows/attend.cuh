// Attention of many tokens, a warp a part of a head's keys, so that eight parts a thread block are under way and none
// waits for another. A warp takes the shares of all warps that `attend_part` has for the part, one after the other.

/// Of all tokens the parts, and of a part the sides of its values, in one line.
struct Items {
    const Place* places;
    const int* starts;  // of each token's items, and behind the last one
    int ring;

    __device__ __forceinline__ int count() const { return starts[TOKENS]; }
    /// The token of an item.
    __device__ __forceinline__ int token(int number) const {
        int token = 0;
#pragma unroll
        for (int step = larger(TOKENS, 1); step > 0; step >>= 1)
            if (token + step < TOKENS && starts[token + step] <= number) token += step;
        return token;
    }
};

/// Counts the items before each token's, in layers of either kind: by one warp each.
__device__ __forceinline__ void count_items(const Place* places, int ring, int* starts) {
    const int lane = threadIdx.x % 32;
    int before = 0;
#pragma unroll 1
    for (int first = 0; first < TOKENS; first += 32) {
        const int token = first + lane;
        const int held = token < TOKENS ? held_of(places[token], ring) : 0;
        const int mine = Part::splits_of(held) * KV_HEADS * VALUE_SIDES;
        int sum = mine;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            const int other = __shfl_sync(~0u, sum, larger(lane - d, 0));
            if (lane >= d) sum += other;
        }
        if (token < TOKENS) starts[token] = before + sum - mine;
        before += __shfl_sync(~0u, sum, 31);
    }
    if (lane == 0) starts[TOKENS] = before;
}

/// This lane's share of a part's sum of values: the elements that `combine_warps` has it write.
struct Mixed {
    float sum[VALUE_TILES][2];

    __device__ __forceinline__ void add(const Running& state, float shrink) {
#pragma unroll
        for (int i = 0; i < VALUE_TILES; i++)
#pragma unroll
            for (int j = 0; j < 2; j++)
                // Rounded before it is added, as what one warp leaves for another is.
                sum[i][j] += __fmul_rn(state.mixed[i][j] + state.mixed[i][j + 2], shrink);
    }
};

/// A part's keys and values into its place among those of its head. `scores` has room for those of the shares of one
/// chunk each; of longer ones the keys are read again.
__device__ __forceinline__ void attend_alone(const Context& context, const Part& part, int side, u32* scratch,
                                             const u16* queries, float4* scores) {
    constexpr int SHARE = 16 * KEY_WARPS;
    const int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4;
    const u64 of_head = (u64)part.head * context.capacity * (HEAD_DIM / 8);
    const uint4* keys = reinterpret_cast<const uint4*>(context.keys) + of_head;
    const uint4* values = reinterpret_cast<const uint4*>(context.values) + of_head + side * VALUE_TILES;
    const bool is_short = part.end - part.begin <= SHARE;
    // Of all shares the largest score.
    float most = -1e30f;
    {
        Keys now, later;
        now.load(keys, part.begin, part.end);
#pragma unroll 1
        for (int base = part.begin; base < part.end; base += 16) {
            if (base + 16 < part.end) later.load(keys, base + 16, part.end);
            float score[4];
            now.score(queries, base, part.end, score);
#pragma unroll
            for (int i = 0; i < 4; i++) most = fmaxf(most, score[i]);
            if (is_short) {
                float4 four;
                four.x = score[0], four.y = score[1], four.z = score[2], four.w = score[3];
                scores[(base - part.begin) * 2 + lane] = four;
            }
            now = later;
        }
    }
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
    most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
    Mixed mixed = {};
    float sum = 0.0f;
    Values now, later;
    now.load(values, part.begin, part.end);
#pragma unroll 1
    for (int share = 0; share < KEY_WARPS; share++) {
        const int first = part.begin + share * 16;
        if (first >= part.end) break;
        Running state;
        state.clear();
#pragma unroll 1
        for (int base = first; base < part.end; base += SHARE) {
            // Of the next chunk of this share, or of the next share's first.
            const int next = base + SHARE < part.end ? base + SHARE : first + 16;
            if (next < part.end) later.load(values, next, part.end);
            float score[4];
            if (is_short) {
                const float4 four = scores[(base - part.begin) * 2 + lane];
                score[0] = four.x, score[1] = four.y, score[2] = four.z, score[3] = four.w;
            } else {
                Keys k;
                k.load(keys, base, part.end);
                k.score(queries, base, part.end, score);
            }
            now.add_to(state, score);
            now = later;
        }
        state.sum += __shfl_xor_sync(~0u, state.sum, 1);
        state.sum += __shfl_xor_sync(~0u, state.sum, 2);
        const float shrink = exp2_fast(state.most - most);
        mixed.add(state, shrink);
        sum = __fmaf_rn(state.sum, shrink, sum);
    }
    const int place = part.head * MOST_SPLITS + part.split;
    if (row < REPEAT) {
        float* to = reinterpret_cast<float*>(scratch + AT_PARTS) + (place * REPEAT + row) * HEAD_DIM +
                    side * 8 * VALUE_TILES + 16 * column;
#pragma unroll
        for (int p = 0; p < VALUE_TILES / 8; p++)
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 8; j += 4) {
                    const float(*m)[2] = mixed.sum + 8 * p + j;
                    float4 x;
                    x.x = m[0][i], x.y = m[1][i], x.z = m[2][i], x.w = m[3][i];
                    *reinterpret_cast<float4*>(to + 64 * p + 8 * i + j) = x;
                }
        if (side == 0 && column == 0)
            reinterpret_cast<float2*>(scratch + AT_PART_SCALES)[place * REPEAT + row] = make_float2(most, sum);
    }
}

/// All parts of a head together, as `combine_parts`, by the warp that has had the last one.
__device__ __forceinline__ void combine_alone(const Part& part, u32* scratch, float2* of_parts) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    const int lane = threadIdx.x % 32, head = part.head;
    const float* parts = reinterpret_cast<const float*>(scratch + AT_PARTS) + head * MOST_SPLITS * WIDTH;
    const float2* part_scales = reinterpret_cast<const float2*>(scratch + AT_PART_SCALES) + head * MOST_SPLITS * REPEAT;
    for (int i = lane; i < part.splits * REPEAT; i += 32) of_parts[i] = shared_read(part_scales + i);
    __syncwarp();
    u16* mixed = reinterpret_cast<u16*>(scratch + AT_MIXED);
#pragma unroll 2
    for (int i = lane; i < WIDTH; i += 32)
        mixed[permuted<BITS>(head * WIDTH + i)] = combined(parts, of_parts, part.splits, i);
    __syncwarp();
}

/// Has the keys of an item brought into the second-level cache, and its values.
__device__ __forceinline__ void prefetch_keys(const Context& context, const Part& part) {
    const u64 at = ((u64)part.head * context.capacity + part.begin) * (HEAD_DIM * 2);
    if (threadIdx.x % 32 == 0 && part.end > part.begin)
        prefetch_bytes(context.keys + at, (part.end - part.begin) * (HEAD_DIM * 2));
}
__device__ __forceinline__ void prefetch_values(const Context& context, const Part& part) {
    const u64 at = ((u64)part.head * context.capacity + part.begin) * (HEAD_DIM * 2);
    if (threadIdx.x % 32 == 0 && part.end > part.begin)
        prefetch_bytes(context.values + at, (part.end - part.begin) * (HEAD_DIM * 2));
}

/// The keys of this warp's first item.
template <typename ContextOf>
__device__ __forceinline__ void prefetch_first(const Items& items, ContextOf context_of) {
    const int number = threadIdx.x / 32 * GRID + blockIdx.x;
    if (number >= items.count()) return;
    const int token = items.token(number);
    const Part part(held_of(items.places[token], items.ring), (number - items.starts[token]) / VALUE_SIDES);
    prefetch_keys(context_of(token), part);
}

/// This warp's items, of all of them every GRID * WARPSth. `words`: the layer's row of the table, from its norms on;
/// `shared`: what this warp has.
template <typename ContextOf>
__device__ __forceinline__ void attend_rows(const u64* words, const Items& items, ContextOf context_of, u32* scratch,
                                            unsigned char* shared) {
    u16* queries = reinterpret_cast<u16*>(shared);
    float4* scores = reinterpret_cast<float4*>(shared + align_up(QUERY_BYTES));
#pragma unroll 1
    for (int number = threadIdx.x / 32 * GRID + blockIdx.x; number < items.count(); number += GRID * WARPS) {
        const int token = items.token(number), own = number - items.starts[token];
        const Part part(held_of(items.places[token], items.ring), own / VALUE_SIDES);
        const Context context = context_of(token);
        if (number >= GRID * WARPS) prefetch_keys(context, part);
        prefetch_values(context, part);
        u32* of_token = scratch + token * TOKEN_STRIDE;
        const float* qkv = reinterpret_cast<const float*>(of_token + AT_QKV);
        // Some heads at a time, so that they are waited for once.
        constexpr int SOME = REPEAT % 2 == 0 ? 2 : 1;
#pragma unroll 1
        for (int first = 0; first < REPEAT; first += SOME) {
            float x[SOME][HEAD_DIM / 32];
#pragma unroll
            for (int i = 0; i < SOME; i++) load_prepared(qkv, words, part.head, first + i, x[i]);
#pragma unroll
            for (int i = 0; i < SOME; i++) put_prepared(words, context, part.head, first + i, x[i], queries);
        }
        if (heads_of(context, part) > REPEAT) {
            float key[HEAD_DIM / 32], value[HEAD_DIM / 32];
            load_prepared(qkv, words, part.head, REPEAT, key);
            load_prepared(qkv, words, part.head, REPEAT + 1, value);
            put_prepared(words, context, part.head, REPEAT, key, queries);
            put_prepared(words, context, part.head, REPEAT + 1, value, queries);
        }
        __syncwarp();
        attend_alone(context, part, own % VALUE_SIDES, of_token, queries, scores);
        __syncwarp();
        u32 is_last = 0;
        if (threadIdx.x % 32 == 0)
            is_last = counted_last(scratch + AT_HEAD_COUNTERS + token * KV_HEADS + part.head, part.splits * VALUE_SIDES);
        if (__shfl_sync(~0u, is_last, 0) != 0) combine_alone(part, of_token, reinterpret_cast<float2*>(scores));
    }
}
