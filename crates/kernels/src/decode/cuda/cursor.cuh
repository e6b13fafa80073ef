// A place in a warp's line of tiles over all products of all layers.

/// What a block keeps of the table's matrices: those of all layers, and, from behind them, that of the logits.
__device__ __forceinline__ void keep_matrices(const u64* table, const u64* last, u64* matrices) {
    constexpr int EACH = MATRICES * MATRIX_WORDS;
    for (int i = threadIdx.x; i < LAYERS * EACH; i += THREADS)
        matrices[i] = table[i / EACH * LAYER_WORDS + i % EACH * (3 / MATRIX_WORDS)];
    if (threadIdx.x < MATRIX_WORDS) matrices[LAYERS * EACH + threadIdx.x] = last[LM_HEAD + threadIdx.x];
}

struct Cursor {
    const u64* matrices;
    // `left` tiles of this product, the next of them `deep` tiles into the row block `block`.
    int layer, kind, left, block, deep;
    // From one tile to the next, the product's tiles of a row block, bytes of a row, and this lane's
    // addresses in rows lane / 8 and that + 8 of weights, and in row lane / 2 of scales and biases; or
    // in the units of the upper and the lower 8 rows.
    int step, depth, row_bytes;
    // Of a product in slices: which, and how many tiles wide they are.
    int slice, width;
    u64 upper, lower, scales, biases;

    /// `matrices`: the addresses of all layers' matrices and, as one layer more, of the logits'.
    __device__ __forceinline__ explicit Cursor(const u64* matrices_)
        : matrices(matrices_), layer(-1), kind(DOWN), left(0), block(0), deep(0), step(0), depth(0), row_bytes(0),
          slice(0), width(0), upper(0), lower(0), scales(0), biases(0) {}

    /// Of the present product.
    __device__ __forceinline__ int bits() const { return kind == LOGITS ? LM_HEAD_BITS : BITS; }
    __device__ __forceinline__ int tile_bytes() const {
        return kind == LOGITS ? Product<LOGITS>::TILE_BYTES : Product<QKV>::TILE_BYTES;
    }

    /// Makes `left` positive, unless this is the end of the last product.
    __device__ __forceinline__ void settle() {
        if constexpr (SLICED) {
#pragma unroll 1
            while (left == 0 && !(kind == LOGITS && (slice + 1) * width >= depth)) {
                if ((slice + 1) * width < depth) {
                    slice++;
                    begin();
                } else {
                    next_product();
                }
            }
        } else {
#pragma unroll 1
            while (left == 0 && kind != LOGITS) next_product();
        }
    }

    /// Moves on to the warp's next tile.
    __device__ __forceinline__ void skip() {
        left--;
        upper += step * tile_bytes();
        lower += step * tile_bytes();
        deep += step;
        if constexpr (SLICED) {
            const int before = block;
            for (; deep >= depth; deep -= depth) block++;
            if ((seek(slice, width, step, depth, block, deep, left) || block != before) && left != 0) aim();
        } else if (deep >= depth) {
            do {
                deep -= depth;
                block++;
            } while (deep >= depth);
            if (left != 0) aim();
        }
    }

    /// On to the next product, of which this warp may have no tile.
    __device__ __forceinline__ void next_product() {
        layer += kind == DOWN;
        kind = kind == DOWN ? (layer == LAYERS ? LOGITS : QKV) : kind + 1;
        slice = 0;
        begin();
    }

    /// To the warp's first tile of this product, and slice.
    __device__ __forceinline__ void begin() {
        Line line = Line::of(kind);
        const int begin = line.begin;
        left = line.count;
        step = line.step;
        depth = line.deep;
        row_bytes = line.row_bytes;
        width = line.width;
        block = (u32)begin / (u32)depth;
        deep = begin - block * depth;
        if constexpr (SLICED) seek(slice, width, step, depth, block, deep, left);
        if (left != 0) aim();
    }

    /// Points at the row block `block`, at the tile `deep`.
    __device__ __forceinline__ void aim() {
        const int lane = threadIdx.x % 32;
        const u64* first = matrices + layer * MATRICES * MATRIX_WORDS;
        int row = block * 16, half = 8, matrix = 0, second = 0;
        if (kind == QKV && row >= QUERY_ROWS) {
            bool value = row >= QUERY_ROWS + KEY_ROWS;
            row -= value ? QUERY_ROWS + KEY_ROWS : QUERY_ROWS;
            matrix = value ? V_PROJ : K_PROJ;
        } else if (kind == OUT) {
            matrix = O_PROJ;
        } else if (kind == GATE_UP) {
            // Eight rows of each.
            matrix = GATE_PROJ, second = 1, row = block * 8, half = 0;
        } else if (kind == DOWN) {
            matrix = DOWN_PROJ;
        } else if (kind == LOGITS && VOCAB % 16 != 0 && LM_HEAD_BITS != 12) {
            // The last row block begins early, to end with the last row; units are there for all.
            row = smaller(row, VOCAB - 16);
        }
        const u64* of_upper = first + matrix * MATRIX_WORDS;
        const u64* of_lower = of_upper + second * MATRIX_WORDS;
        if (bits() == 12) {
            u32 at = lane * 16 + deep * UNIT_BYTES;
            upper = of_upper[0] + (u64)(u32)(row / UNIT_ROWS) * (u32)row_bytes + at;
            lower = of_lower[0] + (u64)(u32)((row + half) / UNIT_ROWS) * (u32)row_bytes + at;
            return;
        }
        u32 column = lane % 8 * 16 + deep * 128;
        upper = of_upper[0] + (u64)(u32)(row + lane / 8) * (u32)row_bytes + column;
        lower = of_lower[0] + (u64)(u32)(row + half + lane / 8) * (u32)row_bytes + column;
        if (is_affine(bits())) {
            const u64* mine = lane < 16 ? of_upper : of_lower;
            int scaled = row + lane / 2 - (lane < 16 ? 0 : 8 - half);
            u32 of_row = kind == LOGITS ? row_bytes * 16 / LM_HEAD_BITS / LM_HEAD_GROUP : row_bytes * 16 / BITS / GROUP;
            u64 offset = (u64)(u32)scaled * of_row;
            scales = mine[1] + offset;
            biases = mine[2] + offset;
        }
    }
};
