// What a product multiplies: made in every block's shared memory, by every block for itself, since
// that costs a read of the second-level cache and no barrier. The residual streams of several tokens would
// not fit there: each is kept by one block, which leaves the normalized stream for all.

/// The sum of `x` over the block, the same in every thread. `reduce` has two rows of 32 floats, used
/// in turn, so that one synchronization is enough.
__device__ __forceinline__ float block_sum(float x, float* reduce) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) reduce[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += reduce[w];
    return sum;
}

/// Sums of each token's input over each group of `GROUP_SIZE`, which stand in any order within 32; those of a
/// group are neighbours.
template <int GROUP_SIZE>
__device__ __forceinline__ void sum_groups(const u16* input, float* sums, int count) {
    constexpr int LANES = GROUP_SIZE / 8;
    __syncthreads();
    // Whole warps, so that the shuffles have their partners; what is behind the end is read elsewhere.
    for (int base = threadIdx.x / 32 * 32; base < count / 8; base += THREADS) {
        int i = base + threadIdx.x % 32, from = smaller(i, count / 8 - 1);
        uint4 eights[TOKENS];
        float sum[TOKENS];
#pragma unroll
        for (int token = 0; token < TOKENS; token++)
            eights[token] = reinterpret_cast<const uint4*>(input + token * INPUT_STRIDE)[from];
#pragma unroll
        for (int token = 0; token < TOKENS; token++) {
            float x[8];
            unpack8(eights[token], x);
            sum[token] = x[0];
#pragma unroll
            for (int j = 1; j < 8; j++) sum[token] += x[j];
        }
#pragma unroll
        for (int d = 1; d < LANES; d *= 2)
#pragma unroll
            for (int token = 0; token < TOKENS; token++) sum[token] += __shfl_xor_sync(~0u, sum[token], d);
        if (i % LANES != 0 || i >= count / 8) continue;
#pragma unroll
        for (int token = 0; token < TOKENS; token++) sums[i / LANES * TOKENS + token] = sum[token];
    }
}

/// Zeros behind the input up to whole tiles, and the sums of its groups.
template <int KIND>
__device__ __forceinline__ void finish_input(u16* input, float* sums) {
    typedef Product<KIND> P;
    constexpr int PADDED = P::DEEP * P::TILE;
    for (int i = P::K + threadIdx.x; i < PADDED; i += THREADS) input[i] = 0;
    if constexpr (is_affine(P::BIT)) sum_groups<P::GROUP_SIZE>(input, sums, PADDED);
    __syncthreads();
}

/// The inputs of all tokens that were left in device memory, from `from` on, TOKEN_STRIDE words apart, in
/// bfloat16 and already permuted: the columns of a slice of them, and the sums of their groups, those of a group
/// being neighbours. Begins and ends synchronized.
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void copy_slice(const Line& line, const u32* from, int slice, u16* input, float* sums) {
    constexpr int EACH = larger(1, WARPS / TOKENS);
    const int columns = line.width * tile_columns(BIT), first = slice * columns;
    const int there = smaller(line.columns - first, columns), warp = threadIdx.x / 32;
    __syncthreads();
    for (int token = warp / EACH; token < TOKENS; token += WARPS / EACH) {
        const uint4* row = reinterpret_cast<const uint4*>(from + token * TOKEN_STRIDE) + first / 8;
        uint4* to = reinterpret_cast<uint4*>(input + token * INPUT_STRIDE);
        // Behind the last column zeros, up to whole tiles.
#pragma unroll 8
        for (int i = threadIdx.x % (EACH * 32); i < columns / 8; i += EACH * 32)
            to[i] = 8 * i < there ? shared_read(row + i) : make_uint4(0, 0, 0, 0);
    }
    if constexpr (is_affine(BIT)) sum_groups<GROUP_SIZE>(input, sums, columns);
    __syncthreads();
}

/// An input that another product left in device memory, in bfloat16 and already permuted.
template <int KIND>
__device__ __forceinline__ void copy_input(const u32* from, u16* input, float* sums) {
    for (int i = threadIdx.x; i < Product<KIND>::K / 8; i += THREADS)
        reinterpret_cast<uint4*>(input)[i] = shared_read(reinterpret_cast<const uint4*>(from) + i);
    finish_input<KIND>(input, sums);
}

__device__ __forceinline__ void add_to(float& sum, float x) { sum += x; }
__device__ __forceinline__ void add_to(float2& sum, float2 x) { sum.x += x.x, sum.y += x.y; }
__device__ __forceinline__ void add_to(float4& sum, float4 x) { sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w; }

/// What thread block `part` of those that share a row in the kernel of one token has summed up, of the row `row` of
/// the product FROM, or of it and the next ones; zero where there are not so many. See `rows/multiply.cuh` for many
/// tokens.
template <int FROM, typename Sum>
__device__ __forceinline__ Sum row_sum(const float* sums, int part, int row) {
    typedef Product<FROM> P;
    auto place = [&](int i) { return reinterpret_cast<const Sum*>(sums + (part * P::SUMS + i) * P::ROWS + row); };
    if constexpr (!MANY) {
        return shared_read(place(0));
    } else {
        Sum of_chains[P::SUMS], sum{};
#pragma unroll
        for (int i = 0; i < P::SUMS; i++) of_chains[i] = shared_read(place(i));
        // In pairs of chains, as `gather` adds them.
#pragma unroll
        for (int i = 0; i < P::SUMS; i += 2) {
            if (i + 1 < P::SUMS) add_to(of_chains[i], of_chains[i + 1]);
            add_to(sum, of_chains[i]);
        }
        return sum;
    }
}

/// Whether there is that part of a row.
template <int FROM>
__device__ __forceinline__ bool has_part(int part, int row) {
    typedef Product<FROM> P;
    const int block = row / 16;
    return part == 0 || part <= P::owner((block + 1) * P::DEEP - 1) - P::owner(block * P::DEEP);
}

/// Adds what the product FROM has left, normalized by `before` if there is
/// one, to the residual stream, which every block holds in float32, and makes the input of the next
/// product: the stream through the norm `after`. Of several tokens a block has one, and `input` lies in
/// device memory; of many, `partials` are whole sums.
template <int KIND, int FROM>
__device__ __forceinline__ void add_and_normalize(const float* partials, const u32* before, const u32* after,
                                                  float* residual, float* reduce, u16* input, float* sums) {
    constexpr int EACH = ceil_div(HIDDEN / 2, THREADS);
    constexpr int PARTIALS = FROM == NOTHING ? 0 : Product<FROM == NOTHING ? OUT : FROM>::PARTIALS;
    float2 x[EACH];
    u32 weight[EACH];
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int pair = i * THREADS + threadIdx.x;
        x[i] = make_float2(0.0f, 0.0f);
        weight[i] = 0;
        if (pair >= HIDDEN / 2) continue;
        weight[i] = __ldg(after + pair);
        if constexpr (MANY) {
            if (PARTIALS > 0) x[i] = reinterpret_cast<const float2*>(partials)[pair];
        } else if constexpr (PARTIALS > 0) {
#pragma unroll
            for (int p = 0; p < PARTIALS; p++) add_to(x[i], row_sum<FROM, float2>(partials, p, 2 * pair));
        }
        squares = __fmaf_rn(x[i].x, x[i].x, __fmaf_rn(x[i].y, x[i].y, squares));
    }
    float scale = 1.0f;
    if (NORMS_BEHIND && PARTIALS > 0) scale = rsqrtf(block_sum(squares, reduce) / HIDDEN + EPS);
    squares = 0.0f;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int pair = i * THREADS + threadIdx.x;
        if (pair >= HIDDEN / 2) continue;
        if (NORMS_BEHIND && PARTIALS > 0) {
            u32 w = __ldg(before + pair);
            x[i].x = __fmul_rn(x[i].x, scale * bf16_low(w));
            x[i].y = __fmul_rn(x[i].y, scale * bf16_high(w));
        }
        // What is rounded when is said, here and above, so that it is the same in all kernels.
        float2* held = reinterpret_cast<float2*>(residual) + pair;
        x[i].x += held->x;
        x[i].y += held->y;
        *held = x[i];
        squares = __fmaf_rn(x[i].x, x[i].x, __fmaf_rn(x[i].y, x[i].y, squares));
    }
    scale = rsqrtf(block_sum(squares, reduce + 32) / HIDDEN + EPS);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int pair = i * THREADS + threadIdx.x;
        if (pair >= HIDDEN / 2) continue;
        constexpr int BIT = Product<KIND>::BIT;
        u16 low = to_bf16(x[i].x * scale * bf16_low(weight[i]));
        u16 high = to_bf16(x[i].y * scale * bf16_high(weight[i]));
        input[permuted<BIT>(2 * pair)] = low;
        input[permuted<BIT>(2 * pair + 1)] = high;
    }
    if (TOKENS == 1) finish_input<KIND>(input, sums);
}

/// Has a layer's norms brought into the second-level cache. `words` are their addresses.
__device__ __forceinline__ void prefetch_norms(const u64* words) {
    if (threadIdx.x >= KEPT_NORMS) return;
    const int word = INPUT_NORM + threadIdx.x;
    // Without norms of heads, or behind, their words are another norm's.
    bool of_head = word == QUERY_NORM || word == KEY_NORM;
    int width = of_head ? HEAD_DIM : HIDDEN;
    if (QKV_BIASES && word >= QUERY_BIAS) width = word == QUERY_BIAS ? QUERY_ROWS : KEY_ROWS;
    prefetch_bytes(words[threadIdx.x], 2 * width);
}

/// The residual stream of a new token: its row of the embedding.
__device__ __forceinline__ void embed(int token, const u64* matrix, float* residual) {
    // A token outside the table would read outside it.
    token = token < 0 ? 0 : token >= VOCAB ? VOCAB - 1 : token;
    const u64 row = (u64)token;
    for (int k = threadIdx.x; k < HIDDEN; k += THREADS) {
        float x;
        if (EMBEDDING_BITS == 16) {
            x = bf16(__ldg(reinterpret_cast<const u16*>(matrix[0]) + row * HIDDEN + k));
        } else if (EMBEDDING_BITS == 12) {
            u64 unit = row / UNIT_ROWS * ceil_div(HIDDEN, UNIT_COLUMNS) + k / UNIT_COLUMNS;
            x = unit_element(reinterpret_cast<const unsigned char*>(matrix[0]) + unit * UNIT_BYTES, token % UNIT_ROWS,
                             k % UNIT_COLUMNS);
        } else {
            u32 word = __ldg(reinterpret_cast<const u32*>(matrix[0]) + row * (HIDDEN * EMBEDDING_BITS / 32) +
                             k * EMBEDDING_BITS / 32);
            u32 q = word >> (k * EMBEDDING_BITS % 32) & ((1u << EMBEDDING_BITS % 32) - 1);
            u64 group = row * (HIDDEN / EMBEDDING_GROUP) + k / EMBEDDING_GROUP;
            x = q * bf16(__ldg(reinterpret_cast<const u16*>(matrix[1]) + group)) +
                bf16(__ldg(reinterpret_cast<const u16*>(matrix[2]) + group));
        }
        residual[k] = x * EMBED_SCALE;
    }
    __syncthreads();
}
