// Attention of many tokens. All parts of all tokens are one line, of which each thread block has an equal piece: of a
// token's head it mostly has all parts, and prepares the head once. While a part's sums are joined, the keys and values
// of the next one are on their way; two parts in turn have a place for their sums.

/// Of one of them what is found once.
struct Piece {
    Context context;
    Part part;
    int token, query;  // where its queries are
    int heads, more;   // to prepare: queries, where it is the first one here of its head, and the new key and value
    u32 is_last;       // of its head, anywhere
};

/// Parts that are asked for before their heads are prepared.
constexpr int PREFETCHED = 6;

/// What there is to join the parts of a head: weights of the parts, and, of each query, their sum.
constexpr int JOIN_BYTES = align_up((MOST_SPLITS + 1) * REPEAT * 4);
constexpr int ROWS_AT_QUERIES = 2 * OF_PART;
constexpr int ROWS_AT_PIECES = ROWS_AT_QUERIES + align_up(PARTS_AT_ONCE * QUERY_BYTES);
static_assert(PARTS_AT_ONCE * JOIN_BYTES <= 2 * OF_PART, "shared memory for what parts weigh");
static_assert(ROWS_AT_PIECES + PARTS_AT_ONCE * (int)sizeof(Piece) <= ATTENTION_OF_ROWS, "shared memory for attention");

/// Counts the parts before each token's, in layers of either kind: by one warp each.
__device__ __forceinline__ void count_parts(const Place* places, int ring, int* starts) {
    const int lane = threadIdx.x % 32;
    int before = 0;
#pragma unroll 1
    for (int first = 0; first < TOKENS; first += 32) {
        const int token = first + lane;
        const int held = token < TOKENS ? held_of(places[token], ring) : 0;
        const int mine = Part::splits_of(held) * KV_HEADS;
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

/// The token that has the part `number` of all.
__device__ __forceinline__ int token_of(const int* starts, int number) {
    int token = 0;
#pragma unroll
    for (int step = TOKENS; step > 0; step >>= 1)
        if (token + step < TOKENS && starts[token + step] <= number) token += step;
    return token;
}

/// Has a part's keys and values brought into the second-level cache, by one thread.
__device__ __forceinline__ void prefetch_piece(const Piece& piece) {
    constexpr int ROW = HEAD_DIM * 2;
    const u64 at = ((u64)piece.part.head * piece.context.capacity + piece.part.begin) * ROW;
    const int bytes = (piece.part.end - piece.part.begin) * ROW;
    if (bytes <= 0) return;
    prefetch_bytes(piece.context.keys + at, bytes);
    prefetch_bytes(piece.context.values + at, bytes);
}

/// Finds `count` parts from `first` on, by the first warp. Ends synchronized.
template <typename ContextOf>
__device__ __forceinline__ void find_pieces(const Place* places, const int* starts, int ring, ContextOf context_of,
                                            int first, int count, Piece* pieces) {
    const int lane = threadIdx.x;
    if (lane < 32) {
        const int number = first + smaller(lane, count - 1), token = token_of(starts, number);
        const Part part(held_of(places[token], ring), number - starts[token]);
        const int head = token * KV_HEADS + part.head, before = __shfl_sync(~0u, head, larger(lane - 1, 0));
        const bool is_new = lane < count && (lane == 0 || head != before);
        const u32 all = __ballot_sync(~0u, is_new);
        if (lane < count) {
            int query = -1;
            for (int i = 0; i <= lane; i++) query += all >> i & 1;
            const Context context = context_of(token);
            pieces[lane] = Piece{context, part, token, query, is_new ? REPEAT : 0, heads_of(context, part) - REPEAT, 0};
            if (lane < PREFETCHED) prefetch_piece(pieces[lane]);
        }
    }
    __syncthreads();
}

/// What the parts of a head weigh, as `combined` has it, by one warp.
__device__ __forceinline__ void weigh_parts(const Part& part, const u32* scratch, float* weights) {
    const int r = threadIdx.x % 32, splits = part.splits;
    if (r >= REPEAT) return;
    const float2* scales =
        reinterpret_cast<const float2*>(scratch + AT_PART_SCALES) + part.head * MOST_SPLITS * REPEAT + r;
    float most = -1e30f, sum = 0.0f;
    float2 scale[MOST_SPLITS];
#pragma unroll
    for (int s = 0; s < MOST_SPLITS; s++)
        scale[s] = s < splits ? shared_read(scales + s * REPEAT) : make_float2(-1e30f, 0.0f);
#pragma unroll
    for (int s = 0; s < MOST_SPLITS; s++) most = fmaxf(most, scale[s].x);
#pragma unroll
    for (int s = 0; s < MOST_SPLITS; s++) {
        if (s >= splits) continue;
        const float weight = exp2_fast(scale[s].x - most);
        sum = __fmaf_rn(weight, scale[s].y, sum);
        weights[s * REPEAT + r] = weight;
    }
    weights[MOST_SPLITS * REPEAT + r] = sum;
}

/// All parts of a head together, by all warps.
__device__ __forceinline__ void join_parts(const Part& part, u32* scratch, const float* weights) {
    constexpr int WIDTH = REPEAT * HEAD_DIM;
    const int head = part.head, splits = part.splits;
    const float* parts = reinterpret_cast<const float*>(scratch + AT_PARTS) + head * MOST_SPLITS * WIDTH;
    u16* mixed = reinterpret_cast<u16*>(scratch + AT_MIXED);
    for (int i = threadIdx.x; i < WIDTH; i += THREADS) {
        const int r = i / HEAD_DIM;
        float x = 0.0f;
        for (int first = 0; first < splits; first += 8) {
            // Eight loads under way at a time.
            float value[8];
#pragma unroll
            for (int j = 0; j < 8; j++)
                value[j] = first + j < splits ? shared_read(parts + (first + j) * WIDTH + i) : 0.0f;
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (first + j < splits) x = __fmaf_rn(weights[(first + j) * REPEAT + r], value[j], x);
        }
        mixed[permuted<BITS>(head * WIDTH + i)] = to_bf16(x / weights[MOST_SPLITS * REPEAT + r]);
    }
}

/// This thread block's parts in a layer.
struct Attention {
    const u64 *words, *caches;
    u32* scratch;
    const Place* places;
    int layer, ring, begin, end;
    const int* starts;
    unsigned char* shared;

    __device__ __forceinline__ Attention(const u64* table, const u64* caches_, u32* scratch_, unsigned char* block_shared,
                                         int layer_)
        : words(table + layer_ * LAYER_WORDS + INPUT_NORM), caches(caches_), scratch(scratch_),
          places(reinterpret_cast<const Place*>(block_shared + ROWS_AT_PLACES)), layer(layer_), ring(is_ring(layer_)),
          starts(reinterpret_cast<const int*>(block_shared + ROWS_AT_STARTS) + ring * (TOKENS + 1)),
          shared(block_shared + ROWS_AT_INPUTS) {
        const int all = starts[TOKENS];
        begin = (int)((u64)blockIdx.x * all / GRID), end = (int)((u64)(blockIdx.x + 1) * all / GRID);
    }
    __device__ __forceinline__ Piece* pieces() const { return reinterpret_cast<Piece*>(shared + ROWS_AT_PIECES); }
    __device__ __forceinline__ Context context_of(int token) const {
        const Place& place = places[token];
        const float2* rotation = reinterpret_cast<const float2*>(scratch + AT_TURNS + token * TOKEN_STRIDE);
        const u64* cache = caches + (token * LAYERS + layer) * 2;
        return ring ? Context{place.ring_place, place.ring_held, place.ring_capacity, rotation + HEAD_DIM / 2,
                              RING_SCORE_SCALE, cache[0], cache[1]}
                    : Context{place.position, place.position + 1, place.capacity, rotation, SCORE_SCALE, cache[0],
                              cache[1]};
    }
    /// Parts from `first` on that are prepared at a time.
    __device__ __forceinline__ int count(int first) const { return smaller(end - first, PARTS_AT_ONCE); }
    /// Finds them; the first ones before the products they need are there.
    __device__ __forceinline__ void find(int first) const {
        if (first < end)
            find_pieces(places, starts, ring, [&](int token) { return context_of(token); }, first, count(first), pieces());
    }
};

/// Of them the first ones have been found. A function of its own, so that what it keeps in registers costs the products
/// none.
__device__ __noinline__ void attend_rows(const u64* table, const u64* caches, u32* scratch, unsigned char* block_shared,
                                         int layer) {
    const Attention attention(table, caches, scratch, block_shared, layer);
    const u64* words = attention.words;
    unsigned char* shared = attention.shared;
    constexpr int WIDTH = REPEAT * HEAD_DIM, SHARE = 16 * KEY_WARPS;
    const int warp = threadIdx.x / 32;
    Piece* pieces = attention.pieces();
    auto queries = [&](int i) { return reinterpret_cast<u16*>(shared + ROWS_AT_QUERIES + i * QUERY_BYTES); };
    auto of_token = [&](int token) { return scratch + token * TOKEN_STRIDE; };
#pragma unroll 1
    for (int first = attention.begin; first < attention.end; first += PARTS_AT_ONCE) {
        const int count = attention.count(first);
        if (first != attention.begin) attention.find(first);
        int next = 0;
#pragma unroll 1
        for (int i = 0; i < count; i++) {
            const Piece& piece = pieces[i];
            const int heads = piece.heads, all_heads = heads + piece.more;
            // The warps take them in turn, going on where the last one's ended.
            for (int head = (warp + WARPS - next) % WARPS; head < all_heads; head += WARPS)
                prepare_head(reinterpret_cast<const float*>(of_token(piece.token) + AT_QKV), words, piece.context,
                             piece.part.head, head < heads ? head : head - heads + REPEAT, queries(piece.query));
            next = (next + all_heads) % WARPS;
        }
        __syncthreads();
        Keys keys;
        Values values;
        auto load = [&](const Piece& piece, int base) {
            const u64 of_head = (u64)piece.part.head * piece.context.capacity * (HEAD_DIM / 8);
            const int end = piece.part.end;
            if (base >= end) return;
            keys.load(reinterpret_cast<const uint4*>(piece.context.keys) + of_head, base, end);
            values.load(reinterpret_cast<const uint4*>(piece.context.values) + of_head + warp % VALUE_SIDES * VALUE_TILES,
                        base, end);
        };
        const int share = warp / VALUE_SIDES * 16;
        load(pieces[0], pieces[0].part.begin + share);
#pragma unroll 1
        for (int i = 0; i < count; i++) {
            const Piece& piece = pieces[i];
            const Part& part = piece.part;
            Running state;
            state.clear();
#pragma unroll 1
            for (int base = part.begin + share; base < part.end; base += SHARE) {
                float score[4];
                keys.score(queries(piece.query), base, part.end, score);
                values.add_to(state, score);
                load(piece, base + SHARE);
            }
            if (i + 1 < count) load(pieces[i + 1], pieces[i + 1].part.begin + share);
            const int place = part.head * MOST_SPLITS + part.split;
            float* of_warps = reinterpret_cast<float*>(shared + i % 2 * OF_PART);
            combine_warps(state, of_warps, reinterpret_cast<float2*>(of_warps + KEY_WARPS * WIDTH),
                          reinterpret_cast<float*>(of_token(piece.token) + AT_PARTS) + place * WIDTH,
                          reinterpret_cast<float2*>(of_token(piece.token) + AT_PART_SCALES) + place * REPEAT);
        }
        __syncthreads();
        if (threadIdx.x < count) {
            Piece& piece = pieces[threadIdx.x];
            piece.is_last = counted_last(scratch + AT_HEAD_COUNTERS + piece.token * KV_HEADS + piece.part.head,
                                         piece.part.splits);
        }
        __syncthreads();
        auto weights = [&](int i) { return reinterpret_cast<float*>(shared + i * JOIN_BYTES); };
        for (int i = warp; i < count; i += WARPS)
            if (pieces[i].is_last != 0) weigh_parts(pieces[i].part, of_token(pieces[i].token), weights(i));
        __syncthreads();
#pragma unroll 1
        for (int i = 0; i < count; i++)
            if (pieces[i].is_last != 0) join_parts(pieces[i].part, of_token(pieces[i].token), weights(i));
        __syncthreads();
    }
}
