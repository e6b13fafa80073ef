// A product of many tokens: this thread block's passes of it, and what becomes of their sums.

/// The sums of a row block, one after the other.
template <typename Each>
__device__ __forceinline__ void each_sum(Sums& sums, Each each) {
#pragma unroll
    for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
        for (int j = 0; j < 4; j++) each(eight * 4 + j, sums[eight][j]);
}

/// A lane's place among the sums of a row block that lie in scratch memory, token by token, and that of its `i`th sum
/// from there.
__device__ __forceinline__ u32 place_of_lane() { return threadIdx.x % 4 * 2 * TOKEN_STRIDE + threadIdx.x % 32 / 4; }
__device__ __forceinline__ u32 place_of_sum(int i) { return (i / 4 * 8 + i % 2) * TOKEN_STRIDE + i % 4 / 2 * 8; }

/// A row block's sums among the logits, where they wait until they are whole; see `write_logit` for the last row block.
__device__ __forceinline__ float* logit_place(float* logits, int block, int i) {
    const int lane = threadIdx.x % 32, row = lane / 4 + i % 4 / 2 * 8, token = i / 4 * 8 + lane % 4 * 2 + i % 2;
    const int at = VOCAB % 16 == 0 || LM_HEAD_BITS == 12 ? block * 16 + row : smaller(block * 16, VOCAB - 16) + row;
    return at >= block * 16 && at < VOCAB ? logits + (u64)(u32)token * VOCAB + at : nullptr;
}
__device__ __forceinline__ void read_logits(float* logits, int block, Sums& sums) {
    each_sum(sums, [&](int i, float& sum) {
        const float* from = logit_place(logits, block, i);
        sum = from != nullptr ? shared_read(from) : 0.0f;
    });
}
__device__ __forceinline__ void write_logits(float* logits, int block, Sums& sums, bool are_whole) {
    each_sum(sums, [&](int i, float& sum) {
        float* to = logit_place(logits, block, i);
        if (to != nullptr) *to = are_whole ? logit_of(sum) : sum;
    });
}

/// A tile at `stage`, of which `rows` and `swizzle` are as in `multiply_tiles`, with its inputs and their groups' sums.
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void multiply_tile(const unsigned char* stage, u32 rows, int swizzle, const uint4* inputs,
                                              const float* group_sums, bool odd, Sums& sums) {
    const Inputs mine(inputs, tile_columns(BIT));
    if constexpr (BIT == 16) {
        dense_rows(rows, swizzle, mine, sums);
    } else if constexpr (BIT == 12) {
        units_rows(stage, inputs, mine, sums);
    } else {
        constexpr int WORDS = larger(1, groups_of_tile(BIT, GROUP_SIZE) / 2);
        const u32* scales = reinterpret_cast<const u32*>(stage + 2048) + threadIdx.x % 32 / 4 * WORDS;
        affine_rows<BIT, GROUP_SIZE>(rows, swizzle, mine, scales, group_sums, odd, sums);
    }
}

/// A thread block's part of the product `kind` of the inputs `from`. The sums of each class lie at `to` afterwards, those
/// of rows that thread blocks of the kernel of one token share part by part: `row_sum` adds them up as that kernel would
/// have. Logits go to `logits`.
template <int BIT, int GROUP_SIZE, int KIND>
__device__ __forceinline__ void multiply_rows(Weights& weights, int kind, const u32* from, float* to, float* logits,
                                              unsigned char* shared) {
    // KIND stands for all products that are shared, since these differ in what `DEALS` has alone.
    constexpr bool IS_SHARED = Product<KIND>::SPLIT;
    constexpr int GROUPS = groups_of_tile(BIT, GROUP_SIZE);
    constexpr int DEPTH = KIND == LOGITS ? Product<LOGITS>::DEEP : 1, WIDTH = KIND == LOGITS ? WIDTH_OF_LOGITS : 1;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = (lane >> 3 & 1) * 8 + lane % 8, swizzle = ((lane >> 4) ^ (lane % 8)) * 16;
    const unsigned char* ring = shared + ROWS_AT_WEIGHTS + warp * (STAGES * STAGE_BYTES);
    const Deal& d = DEALS[kind];
    Share share;
    share.begin(d);
#pragma unroll 1
    for (; share.is_there(d); share.next(d)) {
#pragma unroll 1
        for (int first = 0; first < DEPTH; first += WIDTH) {
            if (first > 0 || share.which >= GRID) __syncthreads();
            load_class<BIT, GROUP_SIZE>(d, kind, share.which, first, from, shared);
#pragma unroll 1
            for (int block = share.first + warp; block < share.end; block += WARPS) {
                Sums whole = {};
                if (KIND == LOGITS && first > 0) read_logits(logits, block, whole);
#pragma unroll 1
                for (int i = 0; i < d.of_class; i++) {
                    const Chain chain(d, share.which, block, i);
                    const int count = KIND == LOGITS ? smaller(chain.count - first, WIDTH) : chain.count;
                    const uint4* inputs =
                        reinterpret_cast<const uint4*>(shared + ROWS_AT_INPUTS) + chain.slot * (input_tile_bytes(BIT) / 16);
                    const float* group_sums =
                        reinterpret_cast<const float*>(shared + ROWS_AT_SUMS) + chain.slot * (GROUPS * TOKENS);
                    int deep = chain.start + first, part = 0, parts = 1, end = 1 << 30;
                    float* of_part = to + place_of_lane() + block * 16 + chain.number * d.rows;
                    const Cuts cuts(d, block);
                    if (IS_SHARED) parts = cuts.parts, end = cuts.end(d, block, 0);
                    Sums sums = {};
                    auto leave_part = [&] {
                        each_sum(sums, [&](int j, float& sum) {
                            of_part[place_of_sum(j)] = sum;
                            sum = 0.0f;
                        });
                        of_part += d.chains * d.rows;
                        part++;
                    };
                    if (KIND == LOGITS) each_sum(sums, [&](int j, float& sum) { sum = whole[j / 4][j % 4]; });
#pragma unroll 1
                    for (int k = 0; k < count; k++) {
                        const int at = weights.oldest();
                        if (IS_SHARED) {
#pragma unroll 1
                            while (deep >= end) {
                                leave_part();
                                end = cuts.end(d, block, part);
                            }
                        }
                        multiply_tile<BIT, GROUP_SIZE>(ring + at, weights.ring + at + row * 128, swizzle, inputs,
                                                       group_sums, (deep & 1) != 0, sums);
                        weights.advance();
                        deep += d.step;
                        inputs += input_tile_bytes(BIT) / 16;
                        group_sums += GROUPS * TOKENS;
                    }
                    if constexpr (IS_SHARED) {
#pragma unroll 1
                        while (part < parts) leave_part();
                    } else {
                        each_sum(whole, [&](int j, float& sum) {
                            if (KIND == LOGITS) {
                                sum = sums[j / 4][j % 4];
                            } else {
                                sum += sums[j / 4][j % 4];
                            }
                        });
                    }
                }
                if constexpr (KIND == LOGITS) {
                    const bool is_whole = first + WIDTH >= DEPTH;
                    // As sums of several chains begin.
                    if (is_whole) each_sum(whole, [](int, float& sum) { sum += 0.0f; });
                    write_logits(logits, block, whole, is_whole);
                } else if constexpr (!IS_SHARED) {
                    const Chain chain(d, share.which, block, 0);
                    float* of_class = to + place_of_lane() + block * 16 + chain.number * d.rows;
                    each_sum(whole, [&](int j, float& sum) { of_class[place_of_sum(j)] = sum; });
                }
            }
        }
    }
}

/// What the MLP's gates make of the sums of gate and up, which the last thread block to have some of the same row blocks
/// does: the input of the product behind, permuted.
__device__ __forceinline__ void activate_rows(u32* scratch, const Place* places, u32* flag) {
    constexpr int CLASSES = Dealing<GATE_UP>::CLASSES;
    Share share;
    share.begin(DEALS[GATE_UP]);
    if (share.first >= share.end) return;
    if (!last_of(scratch + AT_GATE_COUNTERS + blockIdx.x / CLASSES, CLASSES, flag)) return;
    const int fours = (share.end - share.first) * 2;
#pragma unroll 2
    for (int i = threadIdx.x; i < TOKENS * fours; i += THREADS) {
        const int token = i / fours, at = share.first * 8 + i % fours * 4;
        if (places[token].position < 0) continue;
        const float* sums = reinterpret_cast<const float*>(scratch + AT_GATED + token * TOKEN_STRIDE) + at / 8 * 16 + at % 8;
        u16* to = reinterpret_cast<u16*>(scratch + AT_ACTIVATED + token * TOKEN_STRIDE);
        float4 gate = shared_read(reinterpret_cast<const float4*>(sums));
        float4 up = shared_read(reinterpret_cast<const float4*>(sums + 8));
        float4 odd_gate{}, odd_up{};
        if (CLASSES == 2) {
            odd_gate = shared_read(reinterpret_cast<const float4*>(sums + 2 * INTER));
            odd_up = shared_read(reinterpret_cast<const float4*>(sums + 2 * INTER + 8));
        }
        add_to(gate, odd_gate);
        add_to(up, odd_up);
        to[permuted<BITS>(at)] = to_bf16(activate(gate.x) * up.x);
        to[permuted<BITS>(at + 1)] = to_bf16(activate(gate.y) * up.y);
        to[permuted<BITS>(at + 2)] = to_bf16(activate(gate.z) * up.z);
        to[permuted<BITS>(at + 3)] = to_bf16(activate(gate.w) * up.w);
    }
}
