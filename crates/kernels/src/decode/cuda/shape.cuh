// Every size of the model, known when the kernel is compiled. The host defines
//
//   GRID WARPS SMEM            blocks (one a multiprocessor), warps a block, bytes of shared memory
//   TOKENS                     that go through together, each of another sequence: 1, 2, 4 or 8; or 16, 32, 64
//                              or 128, for which the kernel is `rows.cu`
//   SLICE_COLUMNS              of several tokens' inputs, so many columns are in shared memory at a time at the
//                              most: with all of a wide product there would be no room for the ring
//   LAYERS HIDDEN INTER VOCAB HEADS KV_HEADS HEAD_DIM
//   BITS GROUP                 of the layers' matrices; BITS 16 is bfloat16, 12 the units of `unit.cuh`
//   EMBEDDING_BITS EMBEDDING_GROUP, LM_HEAD_BITS LM_HEAD_GROUP
//                              of the embedding and of the matrix that makes the logits
//   NORMS_BEHIND GELU          whether there are norms behind attention and MLP; GELU in place of SiLU
//   HEAD_NORMS QKV_BIASES      whether queries and keys are normalized; queries, keys and values have biases
//   EPS EMBED_SCALE SOFTCAP SCORE_CAP
//                              (SOFTCAP, SCORE_CAP 0: none)
//   SCORE_SCALE RING_SCORE_SCALE POSITION_SCALE RING_POSITION_SCALE
//   RINGS_LOW RINGS_HIGH       bit l: layer l has a sliding window
//
// and the products below follow. A product is cut into tiles of 16 rows times 128 bytes, or, of 12 bits
// an element, of two units: what is fetched at a time. Its tiles, row block by row block, form one line
// that is dealt to the blocks in equal pieces, and a block's piece to its warps in the same way. That
// dealing is also the order in which a row is added up, whichever kernel does it: of each thread block's piece the
// chains (see `share.cuh`), and then what the blocks have.

#define THREADS (WARPS * 32)

/// Whether the kernel is that of many tokens.
constexpr bool MANY = TOKENS > 8;

enum Kind { QKV, OUT, GATE_UP, DOWN, LOGITS, NOTHING };

constexpr int QUERY_ROWS = HEADS * HEAD_DIM;
constexpr int KEY_ROWS = KV_HEADS * HEAD_DIM;
constexpr int QKV_ROWS = QUERY_ROWS + 2 * KEY_ROWS;
constexpr int REPEAT = HEADS / KV_HEADS;

constexpr int smaller(int a, int b) { return a < b ? a : b; }
constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
constexpr bool is_affine(int bits) { return bits <= 8; }
constexpr int tile_columns(int bits) { return bits == 12 ? UNIT_COLUMNS : 1024 / bits; }

template <int KIND>
struct Product {
    static constexpr int BIT = KIND == LOGITS ? LM_HEAD_BITS : BITS;
    static constexpr int GROUP_SIZE = KIND == LOGITS ? LM_HEAD_GROUP : GROUP;
    static constexpr int K = KIND == OUT ? QUERY_ROWS : KIND == DOWN ? INTER : HIDDEN;
    static constexpr int ROWS = KIND == QKV        ? QKV_ROWS
                                : KIND == GATE_UP  ? 2 * INTER
                                : KIND == LOGITS   ? VOCAB
                                                   : HIDDEN;
    /// Columns of a tile.
    static constexpr int TILE = tile_columns(BIT);
    /// Tiles of a row block.
    static constexpr int DEEP = ceil_div(K, TILE);
    /// From a row, or a row of units, to the next, and from one of its tiles to the next.
    static constexpr int ROW_BYTES = BIT == 12 ? DEEP * UNIT_BYTES : K / 8 * BIT;
    static constexpr int TILE_BYTES = BIT == 12 ? UNIT_BYTES : 128;
    static constexpr int BLOCKS = ceil_div(ROWS, 16);
    static constexpr int TILES = BLOCKS * DEEP;
    /// Whether two thread blocks may share a row block, each summing a part of its columns. The
    /// gate cannot be shared, because its activation wants the whole sum.
    static constexpr bool SPLIT = KIND == QKV || KIND == OUT || KIND == DOWN;
    /// From one tile of a warp to its next, see `share.cuh`.
    static constexpr int STEP = KIND == LOGITS || (is_affine(BITS) && HIDDEN >= 2048) ? 1 : WARPS;
    /// Where that is the next tile: tiles that are added up in one go, and such runs of a row block. No two warps of
    /// a thread block share one.
    static constexpr int RUN = STEP != 1         ? 1
                               : KIND == LOGITS  ? DEEP
                               : KIND == GATE_UP ? ceil_div(DEEP, 4)
                                                 : larger(1, DEEP / WARPS);
    static constexpr int RUNS = ceil_div(DEEP, RUN);
    /// Sums that a row's is made of: of runs, or of every WARPSth tile.
    static constexpr int CHAINS = STEP == 1 ? RUNS : WARPS;
    /// What a kernel of many tokens leaves of a thread block's part of a row: a sum of each chain.
    static constexpr int SUMS = MANY && SPLIT ? CHAINS : 1;
    static constexpr int BLOCKS_OF_GRID =
        SPLIT ? smaller(GRID, smaller(2 * BLOCKS, TILES)) : smaller(GRID, BLOCKS);

    /// The first tile of thread block `cta`.
    static constexpr __host__ __device__ int first(int cta) {
        return cta >= BLOCKS_OF_GRID ? TILES
               : SPLIT ? (int)((unsigned)cta * TILES / BLOCKS_OF_GRID)
                       : (int)((unsigned)cta * BLOCKS / BLOCKS_OF_GRID) * DEEP;
    }
    /// The thread block that has this tile.
    static constexpr __host__ __device__ int owner(int tile) {
        return (int)(((unsigned)(tile + 1) * BLOCKS_OF_GRID - 1) / TILES);
    }
    /// Thread blocks that share one row block, at most; the readers add so many partial sums.
    static constexpr int partials() {
        int most = 1;
        if (SPLIT)
            for (int b = 0; b < BLOCKS; b++)
                most = larger(most, 1 + owner((b + 1) * DEEP - 1) - owner(b * DEEP));
        return most;
    }
    static constexpr int PARTIALS = partials();
    /// Sums of one warp over one row block: see `product.cuh`.
    static constexpr int BLOCKS_OF_CTA = ceil_div(BLOCKS, BLOCKS_OF_GRID) + (SPLIT ? 1 : 0);
    static constexpr int PIECES = BLOCKS_OF_CTA * CHAINS;
    /// Tiles of a row block whose input is in shared memory at a time, and how often that is filled.
    static constexpr int WIDTH = TOKENS == 1 ? DEEP : smaller(DEEP, larger(1, SLICE_COLUMNS / TILE));
    static constexpr int SLICES = ceil_div(DEEP, WIDTH);
    /// 4-byte words of scales of one row of a tile.
    static constexpr int SCALE_WORDS = is_affine(BIT) ? larger(1, TILE / GROUP_SIZE / 2) : 0;
    static constexpr int STAGE_BYTES = BIT == 12 ? 2 * UNIT_BYTES : 2048 + 2 * 16 * 4 * SCALE_WORDS;
};

/// Matrices of a layer, in the order of the table; `words` of a matrix are its weight and, if it is
/// quantized, its scales and biases.
enum Matrix { Q_PROJ, K_PROJ, V_PROJ, O_PROJ, GATE_PROJ, UP_PROJ, DOWN_PROJ, MATRICES };

/// One layer's row of the table of pointers.
enum Word {
    INPUT_NORM = 21,
    QUERY_NORM,
    KEY_NORM,
    MLP_NORM,
    // With NORMS_BEHIND.
    ATTENTION_OUT_NORM,
    MLP_OUT_NORM,
    // With QKV_BIASES.
    QUERY_BIAS,
    KEY_BIAS,
    VALUE_BIAS,
    LAYER_WORDS = 32
};

/// Behind the layers.
enum LastWord { EMBEDDING = 0, LM_HEAD = 3, FINAL_NORM = 6, PERIODS, RING_PERIODS, LAST_WORDS = 32 };

__device__ __forceinline__ bool is_ring(int layer) {
    return ((layer < 64 ? (u64)RINGS_LOW >> layer : (u64)RINGS_HIGH >> (layer - 64)) & 1) != 0;
}

// Shared memory, in bytes.
constexpr int align_up(int bytes) { return (bytes + 127) / 128 * 128; }
constexpr bool ANY_AFFINE = is_affine(BITS) || is_affine(LM_HEAD_BITS);
constexpr int MATRIX_WORDS = ANY_AFFINE ? 3 : 1;
/// What each block keeps of the tables: the matrices of the layers and of the logits, then the norms
/// and the cache of each layer.
constexpr int KEPT_MATRICES = (LAYERS * MATRICES + 1) * MATRIX_WORDS;
constexpr int KEPT_NORMS = (QKV_BIASES ? VALUE_BIAS : NORMS_BEHIND ? MLP_OUT_NORM : MLP_NORM) + 1 - INPUT_NORM;
enum KeptWord { KEPT_KEYS = KEPT_NORMS, KEPT_VALUES, KEPT_WORDS = KEPT_KEYS + 2 * TOKENS };
/// Columns of an input that are there at a time, and from one token's to the next: of two tokens the lanes
/// that read together meet no bank twice.
constexpr int INPUT_COLUMNS =
    larger(larger(Product<QKV>::WIDTH * Product<QKV>::TILE, Product<OUT>::WIDTH * Product<OUT>::TILE),
           larger(Product<DOWN>::WIDTH * Product<DOWN>::TILE, Product<LOGITS>::WIDTH * Product<LOGITS>::TILE));
constexpr int INPUT_STRIDE = TOKENS == 1 ? INPUT_COLUMNS : (INPUT_COLUMNS + 63) / 64 * 64 + 32;
constexpr int INPUT_BYTES = 2 * TOKENS * INPUT_STRIDE;

// Attention, see `attention.cuh`. A warp holds the values' sum of at most 128 elements, so heads of
// 256 have two warps for the same keys.
constexpr int MAX_SPLITS = 32;
/// Into which the keys of a head are split at the most.
constexpr int MOST_SPLITS = smaller(GRID / KV_HEADS, MAX_SPLITS);
constexpr int VALUE_SIDES = HEAD_DIM > 128 ? HEAD_DIM / 128 : 1;
constexpr int VALUE_TILES = HEAD_DIM / VALUE_SIDES / 8;
constexpr int KEY_WARPS = WARPS / VALUE_SIDES;
/// Of a query in 16-bit words: two parts, and what keeps rows in different banks.
constexpr int QUERY_STRIDE = 2 * HEAD_DIM + 8;
constexpr int AT_QUERIES = 4 * (KEY_WARPS * REPEAT * (HEAD_DIM + 2) + 2 * REPEAT * MAX_SPLITS);
constexpr int QUERY_BYTES = 2 * REPEAT * QUERY_STRIDE;
/// Of several tokens a block has as many parts at the most.
constexpr int ATTENTION_BYTES = AT_QUERIES + TOKENS * QUERY_BYTES;

constexpr int PIECES = larger(larger(larger(Product<QKV>::PIECES, Product<OUT>::PIECES),
                                     larger(Product<GATE_UP>::PIECES, Product<DOWN>::PIECES)),
                              Product<LOGITS>::PIECES);
constexpr int GROUP_SUMS = TOKENS * INPUT_COLUMNS / 32;
constexpr int STAGE_BYTES = larger(Product<QKV>::STAGE_BYTES, Product<LOGITS>::STAGE_BYTES);

constexpr int AT_RESIDUAL = 0;
constexpr int AT_INPUT = AT_RESIDUAL + align_up(4 * HIDDEN);
constexpr int AT_SUMS = AT_INPUT + align_up(larger(INPUT_BYTES, ATTENTION_BYTES));
constexpr int AT_PIECES = AT_SUMS + (ANY_AFFINE ? align_up(4 * GROUP_SUMS) : 0);
constexpr int AT_REDUCE = AT_PIECES + align_up(PIECES * 64 * TOKENS);
constexpr int AT_TABLE = AT_REDUCE + 256;
constexpr int AT_ROTATION = AT_TABLE + align_up(8 * (KEPT_MATRICES + LAYERS * KEPT_WORDS));
constexpr int ROTATIONS = RINGS_LOW != 0 || RINGS_HIGH != 0 ? 2 : 1;
/// Of a token: where it stands, and a part of its attention in layers of either kind.
constexpr int PLACE_BYTES = 20 + 2 * 24 + 4;
constexpr int AT_PLACES = AT_ROTATION + align_up(TOKENS * ROTATIONS * (HEAD_DIM / 2) * 8);
constexpr int AT_RING = AT_PLACES + (TOKENS == 1 ? 0 : align_up(TOKENS * PLACE_BYTES));
constexpr int RING_STAGES = smaller(12, (SMEM - AT_RING) / (WARPS * STAGE_BYTES));
static_assert(MANY || RING_STAGES >= 2, "shared memory has no room for two tiles a warp");

// Scratch, in 4-byte words; the counters must be zero before the first launch. Each of several
// tokens has all of what follows the counters, one behind the other.
constexpr int AT_COUNTERS = 0;
constexpr int AT_HEAD_COUNTERS = 64;
/// Of many tokens, of the thread blocks that have the same row blocks of gate and up.
constexpr int AT_GATE_COUNTERS = 64 + ceil_div(TOKENS * KV_HEADS, 32) * 32;
constexpr int AT_QKV = AT_GATE_COUNTERS + (MANY ? ceil_div(GRID, 32) * 32 : 0);
constexpr int AT_OUT = AT_QKV + Product<QKV>::PARTIALS * Product<QKV>::SUMS * QKV_ROWS;
constexpr int AT_DOWN = AT_OUT + Product<OUT>::PARTIALS * Product<OUT>::SUMS * HIDDEN;
constexpr int AT_MIXED = AT_DOWN + Product<DOWN>::PARTIALS * Product<DOWN>::SUMS * HIDDEN;
constexpr int AT_ACTIVATED = AT_MIXED + ceil_div(QUERY_ROWS, 8) * 4;
constexpr int AT_PARTS = AT_ACTIVATED + ceil_div(INTER, 8) * 4;
constexpr int AT_PART_SCALES = AT_PARTS + KV_HEADS * MOST_SPLITS * REPEAT * HEAD_DIM;
/// The normalized residual stream, where one block makes it for all.
constexpr int AT_NORMALIZED = ceil_div(AT_PART_SCALES + KV_HEADS * MOST_SPLITS * REPEAT * 2, 4) * 4;
/// Of many tokens also what a block of few keeps in shared memory, and the sums of gate and up of each class.
constexpr int AT_STREAM = AT_NORMALIZED + (TOKENS == 1 ? 0 : ceil_div(HIDDEN, 8) * 4);
constexpr int AT_TURNS = AT_STREAM + (MANY ? ceil_div(HIDDEN, 4) * 4 : 0);
constexpr int AT_GATED = AT_TURNS + (MANY ? ROTATIONS * HEAD_DIM : 0);
constexpr int TOKEN_END = AT_GATED + (MANY ? 4 * INTER : 0);
constexpr int TOKEN_STRIDE = ceil_div(TOKEN_END - AT_QKV, 32) * 32;
constexpr int SCRATCH_END = TOKENS == 1 ? TOKEN_END : AT_QKV + TOKENS * TOKEN_STRIDE;
static_assert(SCRATCH_END <= SCRATCH, "the host gives too little scratch");

static_assert((WARPS & (WARPS - 1)) == 0, "warps");
static_assert(TOKENS == 1 || TOKENS == 2 || TOKENS == 4 || TOKENS == 8 || TOKENS % 16 == 0, "tokens");
static_assert(MANY || TOKENS <= GRID, "each token has a block that keeps its residual stream");
static_assert(HEAD_DIM == 64 || HEAD_DIM == 128 || HEAD_DIM == 256, "head_dim");
static_assert(HIDDEN % 32 == 0 && INTER % 32 == 0, "widths are multiples of 32");
static_assert(REPEAT <= 8 && HEADS % KV_HEADS == 0 && KV_HEADS <= GRID, "heads");
static_assert(LAYERS <= 128, "layers");
