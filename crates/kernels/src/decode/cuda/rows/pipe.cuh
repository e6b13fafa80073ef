// What comes through shared memory, stage by stage: a tile of weights for each warp, of all products of all
// layers in order, and the columns of all tokens' inputs that those tiles want, of the present product.
//
// The weights run ahead of the computation also where it waits; the inputs are asked for when they are
// there. Each stage is one group of copies, so that one count holds for both.

constexpr int input_tile_bytes(int bits) { return 2 * TOKENS * tile_columns(bits); }
constexpr int INPUTS_OF_STAGE = larger(HALVES * input_tile_bytes(BITS), input_tile_bytes(LM_HEAD_BITS));
constexpr int groups_of_tile(int bits, int group) { return is_affine(bits) ? tile_columns(bits) / group : 0; }
constexpr int STAGE_SUMS =
    TOKENS * larger(HALVES * groups_of_tile(BITS, GROUP), groups_of_tile(LM_HEAD_BITS, LM_HEAD_GROUP));
constexpr int WEIGHTS_OF_STAGE = WARPS * STAGE_BYTES;

// Shared memory. What attention has is where the inputs of products are.
constexpr int ATTENTION_OF_ROWS = align_up(larger(AT_QUERIES, WARPS * align_up(MOST_SPLITS * REPEAT * 8))) +
                                  align_up((QUERY_BYTES > 4096 ? 6 : 12) * QUERY_BYTES) + 1280;
constexpr int ROWS_AT_MATRICES = 256;
constexpr int ROWS_AT_PLACES = ROWS_AT_MATRICES + align_up(8 * KEPT_MATRICES);
constexpr int ROWS_AT_STARTS = ROWS_AT_PLACES + align_up(20 * TOKENS);
constexpr int ROWS_AT_LIST = ROWS_AT_STARTS + align_up(2 * 4 * (TOKENS + 1));
constexpr int ROWS_AT_SUMS = ROWS_AT_LIST + align_up(LIST_BYTES);
constexpr int ROWS_AT_EXCHANGE = ROWS_AT_SUMS + align_up(4 * STAGE_SUMS);
constexpr int ROWS_AT_STAGES = ROWS_AT_EXCHANGE + (HALVES == 2 ? WARPS / 2 * 64 * TOKENS : 0);
constexpr int stages_that_fit() {
    int stages = 12;
    while (stages > 2 && larger(stages * INPUTS_OF_STAGE, ATTENTION_OF_ROWS) + stages * WEIGHTS_OF_STAGE >
                             SMEM - ROWS_AT_STAGES)
        stages--;
    return stages;
}
constexpr int STAGES = stages_that_fit();
constexpr int ROWS_AT_WEIGHTS =
    ROWS_AT_STAGES + align_up(larger(STAGES * INPUTS_OF_STAGE, ATTENTION_OF_ROWS));
static_assert(ROWS_AT_WEIGHTS + STAGES * WEIGHTS_OF_STAGE <= SMEM, "shared memory has no room for two stages");

/// Which 16 bytes of a token's row of a tile hold those of column `column`: of neighbouring tokens they lie in
/// other banks.
__device__ __forceinline__ int input_place(int token, int column) { return column ^ (token & 1) << 2; }

struct Pipe : Copier {
    const Stage* list;
    const int* ends;  // of the products in it
    // Of the weights that come next, and the inputs of a product.
    int ahead, ahead_end, inputs, inputs_end, inputs_kind;
    const u32* from;  // the inputs of the first token
    u32 shared;       // of the block, its address
    int put, take;
    bool is_aimed;  // at a row block of the unit that weights are asked for of

    __device__ __forceinline__ Pipe(const u64* matrices, unsigned char* shared_)
        : Copier(matrices), list(reinterpret_cast<const Stage*>(shared_ + ROWS_AT_LIST)),
          ends(reinterpret_cast<const int*>(list + LISTED_UP_TO[5])), ahead(0), ahead_end(ends[QKV]), inputs(0),
          inputs_end(0), inputs_kind(QKV), from(nullptr), shared(shared_address(shared_)), put(0), take(0),
          is_aimed(false) {
        layer = 0, kind = QKV, row_bytes = Product<QKV>::ROW_BYTES;
    }

    /// Fills the stages with weights for the first time.
    __device__ __forceinline__ void start() {
#pragma unroll 1
        for (int i = 0; i < STAGES - 1; i++) {
            fetch_weights(put);
            copies_commit();
            put++;
        }
    }

    /// Asks for the inputs of a product that now are there, as many stages of them as there are weights.
    __device__ __forceinline__ void start_inputs(int kind_, const u32* from_) {
        from = from_, inputs_kind = kind_;
        inputs = LISTED[kind_], inputs_end = ends[kind_];
        int stage = take;
#pragma unroll 1
        for (int i = 0; i < STAGES - 1; i++) {
            fetch_inputs(stage);
            copies_commit();
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
    }

    /// Waits for the next stage, of which the place is returned, and asks for what comes into the place of the
    /// one before it.
    __device__ __forceinline__ int arrive() {
        copies_wait<STAGES - 2>();
        __syncthreads();
        fetch_weights(put);
        fetch_inputs(put);
        copies_commit();
        put = put + 1 == STAGES ? 0 : put + 1;
        const int here = take;
        take = take + 1 == STAGES ? 0 : take + 1;
        return here;
    }

    __device__ __forceinline__ void fetch_weights(int stage) {
#pragma unroll 1
        while (ahead == ahead_end) {
            if (kind == LOGITS) return;
            layer += kind == DOWN;
            kind = kind == DOWN ? (layer == LAYERS ? LOGITS : QKV) : kind + 1;
            ahead = LISTED[kind], ahead_end = ends[kind];
            row_bytes = kind == LOGITS ? Product<LOGITS>::ROW_BYTES
                        : kind == DOWN ? Product<DOWN>::ROW_BYTES
                        : kind == OUT  ? Product<OUT>::ROW_BYTES
                                       : Product<QKV>::ROW_BYTES;
        }
        const Stage next = list[ahead++];
        if (next.is_first()) is_aimed = false;
        const Deal& d = DEALS[kind];
        const int warp = threadIdx.x / 32, rows = next.rows();
        const int half = warp >= rows ? 1 : 0, slot = warp - half * rows;
        if (half >= next.halves() || slot >= rows) return;
        const int tile = next.tile(half), before = deep;
        block = next.block() + slot * d.classes;
        if (tile == Stage::NO_TILE || block >= d.blocks) return;
        deep = tile;
        if (!is_aimed) {
            aim();
            is_aimed = true;
        } else {
            // It may lie before the last one.
            upper += (long long)((tile - before) * tile_bytes());
            lower += (long long)((tile - before) * tile_bytes());
        }
        copy_tile(shared + ROWS_AT_WEIGHTS + stage * WEIGHTS_OF_STAGE + warp * STAGE_BYTES);
    }

    __device__ __forceinline__ void fetch_inputs(int stage) {
        if (inputs == inputs_end) return;
        const Stage next = list[inputs++];
        const u32 to = shared + ROWS_AT_STAGES + stage * INPUTS_OF_STAGE;
        if (inputs_kind == LOGITS) {
            copy_inputs<LM_HEAD_BITS>(next, to);
        } else {
            copy_inputs<BITS>(next, to);
        }
    }

    template <int BIT>
    __device__ __forceinline__ void copy_inputs(const Stage& next, u32 to) {
        constexpr int COLUMNS = tile_columns(BIT) / 8;
        const int eights = (inputs_kind == OUT ? QUERY_ROWS : inputs_kind == DOWN ? INTER : HIDDEN) / 8;
        // A thread has the same columns of every EACHth token.
        constexpr int EACH = THREADS / COLUMNS;
        static_assert(EACH % 2 == 0 && (TOKENS % EACH == 0 || TOKENS < EACH), "tokens of a thread");
        const int token = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
        const u64 of_thread = (u64)from + ((u64)(u32)token * TOKEN_STRIDE * 4 + column * 16);
        u32 place = to + (token * COLUMNS + input_place(token, column)) * 16;
#pragma unroll 1
        for (int half = 0; half < next.halves(); half++, place += input_tile_bytes(BIT)) {
            const int tile = next.tile(half);
            if (tile == Stage::NO_TILE) continue;
            // Behind the last column zeros.
            const int bytes = tile * COLUMNS + column < eights ? 16 : 0;
            const u64 at = of_thread + tile * COLUMNS * 16;
#pragma unroll
            for (int i = 0; i < ceil_div(TOKENS, EACH); i++)
                if (TOKENS % EACH == 0 || token < TOKENS) copy16(place + i * EACH * COLUMNS * 16, at + (u64)i * EACH * TOKEN_STRIDE * 4, bytes);
        }
    }
};

/// Sums of each token's inputs in a stage over each group, in the order of `sum_groups`.
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void sum_stage(const uint4* inputs, int halves, float* sums) {
    constexpr int COLUMNS = tile_columns(BIT) / 8, LANES = GROUP_SIZE / 8, GROUPS = COLUMNS / LANES;
#pragma unroll 2
    for (int i = threadIdx.x; i < halves * TOKENS * COLUMNS; i += THREADS) {
        const int row = i / COLUMNS, column = i % COLUMNS;
        float x[8];
        unpack8(inputs[row * COLUMNS + input_place(row, column)], x);
        float sum = x[0];
#pragma unroll
        for (int j = 1; j < 8; j++) sum += x[j];
#pragma unroll
        for (int d = 1; d < LANES; d *= 2) sum += __shfl_xor_sync(~0u, sum, d);
        if (column % LANES == 0) sums[(row / TOKENS * GROUPS + column / LANES) * TOKENS + row % TOKENS] = sum;
    }
    __syncthreads();
}
