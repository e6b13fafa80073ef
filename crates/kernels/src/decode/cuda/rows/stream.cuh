// What comes through shared memory: the tiles of weights of a warp, of all products of all layers in order, through a
// ring of its own, which run ahead of the computation also where it waits; and what all tokens have in the columns of a
// class of chains.

constexpr int input_tile_bytes(int bits) { return 2 * TOKENS * tile_columns(bits); }
constexpr int groups_of_tile(int bits, int group) { return is_affine(bits) ? tile_columns(bits) / group : 0; }
/// Tiles whose inputs are there at a time.
constexpr int MOST_TILES = larger(larger(Dealing<QKV>::TILES, Dealing<OUT>::TILES),
                                  larger(Dealing<GATE_UP>::TILES, Dealing<DOWN>::TILES));

// Shared memory. What attention has is where the inputs of products are, and so are the whole sums of a row that is
// normalized.

/// What the warps have mixed of a part.
constexpr int OF_PART = align_up(4 * KEY_WARPS * REPEAT * (HEAD_DIM + 2));
/// Parts that are prepared at a time.
constexpr int PARTS_AT_ONCE = QUERY_BYTES > 4096 ? 6 : 12;
constexpr int ATTENTION_OF_ROWS = 2 * OF_PART + align_up(PARTS_AT_ONCE * QUERY_BYTES) + 1280;
constexpr int INPUTS_BYTES =
    align_up(larger(MOST_TILES * input_tile_bytes(BITS), larger(ATTENTION_OF_ROWS, 4 * HIDDEN)));
/// Of logits, which have one chain of all columns, as many as fit there; their sums wait among the logits.
constexpr int WIDTH_OF_LOGITS = smaller(Product<LOGITS>::DEEP, INPUTS_BYTES / input_tile_bytes(LM_HEAD_BITS));
static_assert(WIDTH_OF_LOGITS > 0, "a tile of the logits' inputs");
constexpr int ROWS_AT_MATRICES = 256;
constexpr int ROWS_AT_PLACES = ROWS_AT_MATRICES + align_up(8 * KEPT_MATRICES);
constexpr int ROWS_AT_STARTS = ROWS_AT_PLACES + align_up(20 * TOKENS);
constexpr int ROWS_AT_SUMS = ROWS_AT_STARTS + align_up(2 * 4 * (TOKENS + 1));
constexpr int ROWS_AT_INPUTS =
    ROWS_AT_SUMS + align_up(4 * TOKENS * larger(MOST_TILES * groups_of_tile(BITS, GROUP),
                                                WIDTH_OF_LOGITS * groups_of_tile(LM_HEAD_BITS, LM_HEAD_GROUP)));
constexpr int ROWS_AT_WEIGHTS = ROWS_AT_INPUTS + INPUTS_BYTES;
constexpr int STAGES = smaller(12, (SMEM - ROWS_AT_WEIGHTS) / (WARPS * STAGE_BYTES));
static_assert(STAGES >= 2, "shared memory has no room for two tiles a warp");

/// The weights of this warp.
struct Weights : Copier {
    Share share;
    int row, chain, from;  // its row block, the chain of the class, and of logits the first tile whose inputs are there
    int mine, hop;         // tiles that are left of the chain, and bytes from one to the next
    u32 ring;
    int put, take;

    __device__ __forceinline__ Weights(const u64* matrices, unsigned char* shared)
        : Copier(matrices), share{0, 0, 0}, row(0), chain(0), from(0), mine(0), hop(0),
          ring(shared_address(shared) + ROWS_AT_WEIGHTS + threadIdx.x / 32 * (STAGES * STAGE_BYTES)), put(0), take(0) {
        share.which = 1 << 20;
    }

    /// Fills the ring for the first time.
    __device__ __forceinline__ void begin_all() {
#pragma unroll 1
        for (int i = 0; i < STAGES; i++) {
            fetch();
            copies_commit();
        }
    }
    /// Waits for the oldest tile; where it is, from the ring's begin.
    __device__ __forceinline__ int oldest() {
        copies_wait<STAGES - 1>();
        __syncwarp();
        return take * STAGE_BYTES;
    }
    /// Gives its place to the next one.
    __device__ __forceinline__ void advance() {
        __syncwarp();
        take = take + 1 == STAGES ? 0 : take + 1;
        fetch();
        copies_commit();
    }

    __device__ __forceinline__ void fetch() {
#pragma unroll 1
        while (mine <= 0)
            if (!next_chain()) return;
        copy_tile(ring + put * STAGE_BYTES);
        upper += (u64)(u32)hop, lower += (u64)(u32)hop;
        deep += DEALS[kind].step;
        mine--;
        put = put + 1 == STAGES ? 0 : put + 1;
    }

    /// False behind the last one.
    __device__ __forceinline__ bool next_chain() {
        chain++;
        if (layer < 0 || chain >= DEALS[kind].of_class) {
            chain = 0;
            row += WARPS;
#pragma unroll 1
            while (row >= share.end || !share.is_there(DEALS[kind]))
                if (!next_share()) return false;
        }
        const Deal& d = DEALS[kind];
        const Chain next(d, share.which, row, chain);
        mine = kind == LOGITS ? smaller(next.count - from, WIDTH_OF_LOGITS) : next.count;
        const int before = deep;
        deep = next.start + from;
        if (chain == 0) {
            block = row;
            aim();
        } else {
            // It may lie before the last one.
            upper += (long long)((deep - before) * tile_bytes()), lower += (long long)((deep - before) * tile_bytes());
        }
        return true;
    }
    __device__ __forceinline__ bool next_share() {
        if (layer >= 0 && kind == LOGITS && share.is_there(DEALS[LOGITS])) from += WIDTH_OF_LOGITS;
        if (from == 0 || from >= Product<LOGITS>::DEEP) {
            from = 0;
            if (layer >= 0 && share.is_there(DEALS[kind])) share.next(DEALS[kind]);
            if (layer < 0 || !share.is_there(DEALS[kind])) {
                if (kind == LOGITS) return false;
                layer += kind == DOWN;
                kind = kind == DOWN ? (layer == LAYERS ? LOGITS : QKV) : kind + 1;
                row_bytes = DEALS[kind].row_bytes;
                hop = DEALS[kind].step * tile_bytes();
                share.begin(DEALS[kind]);
            }
        }
        row = share.first + threadIdx.x / 32;
        return true;
    }
};

/// Which 16 bytes of a token's row of a tile hold those of column `column`: of neighbouring tokens they lie in
/// other banks.
__device__ __forceinline__ int input_place(int token, int column) { return column ^ (token & 1) << 2; }

/// Brings what all tokens have in the columns of a class into shared memory, of logits from the tile `from` on; the
/// tokens lie TOKEN_STRIDE words apart. Begins and ends synchronized.
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void load_class(const Deal& d, int kind, int which, int from, const u32* inputs,
                                           unsigned char* shared) {
    constexpr int COLUMNS = tile_columns(BIT) / 8;
    // A thread has the same columns of every EACHth token.
    constexpr int EACH = THREADS / COLUMNS;
    static_assert(EACH % 2 == 0 && (TOKENS % EACH == 0 || TOKENS < EACH), "tokens of a thread");
    const int token = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
    const u64 of_thread = (u64)inputs + ((u64)(u32)token * TOKEN_STRIDE * 4 + column * 16);
    const u32 place = shared_address(shared) + ROWS_AT_INPUTS + (token * COLUMNS + input_place(token, column)) * 16;
    const int tiles = kind == LOGITS ? smaller(d.deep - from, WIDTH_OF_LOGITS) : d.of_class * d.longest;
    if (TOKENS >= EACH || token < TOKENS) {
#pragma unroll 1
        for (int slot = 0; slot < tiles; slot++) {
            const int columns = which + (u32)slot / (u32)d.longest * d.classes, i = (u32)slot % (u32)d.longest;
            const int tile = from + columns * d.run + i * d.step;
            // Behind the last column zeros.
            const int bytes = tile * COLUMNS + column < d.eights ? 16 : 0;
            const u64 at = of_thread + (u64)(u32)(tile * COLUMNS * 16);
            const u32 to = place + slot * input_tile_bytes(BIT);
#pragma unroll
            for (int j = 0; j < ceil_div(TOKENS, EACH); j++)
                copy16(to + j * EACH * COLUMNS * 16,
                       bytes == 0 ? (u64)inputs : at + (u64)j * EACH * TOKEN_STRIDE * 4, bytes);
        }
    }
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    if constexpr (is_affine(BIT)) {
        // Sums over each group, in the order of `sum_groups`.
        constexpr int LANES = GROUP_SIZE / 8, GROUPS = COLUMNS / LANES;
        const uint4* here = reinterpret_cast<const uint4*>(shared + ROWS_AT_INPUTS);
        float* sums = reinterpret_cast<float*>(shared + ROWS_AT_SUMS);
#pragma unroll 2
        for (int i = threadIdx.x; i < tiles * TOKENS * COLUMNS; i += THREADS) {
            const int row = i / COLUMNS, at = i % COLUMNS;
            float x[8];
            unpack8(here[row * COLUMNS + input_place(row, at)], x);
            float sum = x[0];
#pragma unroll
            for (int j = 1; j < 8; j++) sum += x[j];
#pragma unroll
            for (int d = 1; d < LANES; d *= 2) sum += __shfl_xor_sync(~0u, sum, d);
            if (at % LANES == 0) sums[(row / TOKENS * GROUPS + at / LANES) * TOKENS + row % TOKENS] = sum;
        }
        __syncthreads();
    }
}
