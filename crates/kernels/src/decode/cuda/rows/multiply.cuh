// A product of many tokens: this thread block's units of it, and what becomes of their sums.

/// Sums of rows that thread blocks share go to the scratch memory: of each part of a row block, and of each pair of
/// its chains, one, which `row_sum` adds up as the kernel of one token would have.
struct Shared {
    float* to;      // of this lane's first row and token
    float* others;  // where the odd chain's warp keeps its sums until the other one is done
    int stride;     // from one place of a row's sums to the next

    /// Of this lane's `i`th sum: its token's and its row's.
    static __device__ __forceinline__ u32 offset(int i) { return (i / 4 * 8 + i % 2) * TOKEN_STRIDE + i % 4 / 2 * 8; }

    template <int COUNT>
    static __device__ __forceinline__ void each(Sums (&sums)[COUNT], float* at) {
#pragma unroll
        for (int i = 0; i < EIGHTS * 4; i++) {
            float sum = sums[0][i / 4][i % 4];
            sums[0][i / 4][i % 4] = 0.0f;
            if (COUNT > 1) {
                sum += sums[COUNT - 1][i / 4][i % 4];
                sums[COUNT - 1][i / 4][i % 4] = 0.0f;
            }
            at[offset(i)] = sum;
        }
    }
    static __device__ __forceinline__ void join(float* to, const float* others) {
        Sums x, y;
#pragma unroll
        for (int i = 0; i < EIGHTS * 4; i++) {
            x[i / 4][i % 4] = shared_read(to + offset(i));
            y[i / 4][i % 4] = shared_read(others + offset(i));
        }
#pragma unroll
        for (int i = 0; i < EIGHTS * 4; i++) to[offset(i)] = x[i / 4][i % 4] + y[i / 4][i % 4];
    }
};

/// This thread block's part of the product `kind` of the inputs `from`. Of rows that it has alone `give(block, sums)`
/// gets the whole sums; others lie at `shared_sums` afterwards.
template <int BIT, int GROUP_SIZE, int KIND, typename Give>
__device__ __forceinline__ void multiply_rows(Pipe& pipe, int kind, const u32* from, float* shared_sums, u32* scratch,
                                              unsigned char* shared, Give give) {
    // KIND stands for all products that are shared, since these differ in what `DEALS` has alone.
    constexpr bool IS_SHARED = Product<KIND>::SPLIT;
    constexpr int AT_ONCE = Dealing<KIND>::AT_ONCE;
    constexpr int TILE = tile_columns(BIT), GROUPS = groups_of_tile(BIT, GROUP_SIZE);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = (lane >> 3 & 1) * 8 + lane % 8, swizzle = ((lane >> 4) ^ (lane % 8)) * 16;
    float* group_sums = reinterpret_cast<float*>(shared + ROWS_AT_SUMS);
    const Deal& d = DEALS[kind];
    pipe.start_inputs(kind, from);
    Unit unit;
#pragma unroll 1
    for (int number = blockIdx.x; number < d.units; number += GRID) {
        unit.set(d, number);
        const int half = warp >= unit.rows ? 1 : 0, slot = warp - half * unit.rows;
        const int block = unit.block(d, slot);
        const bool works = half < unit.halves && slot < unit.rows && block < d.blocks;
        Sums sums[AT_ONCE] = {}, whole = {}, evens = {};
        const Cuts cuts(d, block);
        Shared places{};
        int part = 0, end = d.deep;
        if (IS_SHARED && works) {
            const int at = lane % 4 * 2 * TOKEN_STRIDE + unit.pair * d.rows + block * 16 + lane / 4;
            places = Shared{shared_sums + at, reinterpret_cast<float*>(scratch + AT_OTHERS) + at, d.pairs * d.rows};
            end = cuts.end(d, block, 0);
        }
        auto leave_part = [&] {
            Shared::each(sums, (half == 1 ? places.others : places.to) + part * places.stride);
            part++;
        };
        // The next stage, in which this warp has the tile `deep` if there is one.
        auto add_stage = [&](Sums& to, int deep, bool is_there) {
            const int stage = pipe.arrive();
            const uint4* inputs = reinterpret_cast<const uint4*>(shared + ROWS_AT_STAGES + stage * INPUTS_OF_STAGE);
            if constexpr (is_affine(BIT)) sum_stage<BIT, GROUP_SIZE>(inputs, unit.halves, group_sums);
            if (!is_there) return;
            if (IS_SHARED) {
#pragma unroll 1
                while (deep >= end) {
                    leave_part();
                    end = cuts.end(d, block, part);
                }
            }
            const unsigned char* weights = shared + ROWS_AT_WEIGHTS + stage * WEIGHTS_OF_STAGE + warp * STAGE_BYTES;
            inputs += half * (input_tile_bytes(BIT) / 16);
            const Inputs mine(inputs, TILE);
            if constexpr (BIT == 16) {
                dense_rows(shared_address(weights) + row * 128, swizzle, mine, to);
            } else if constexpr (BIT == 12) {
                units_rows(weights, inputs, mine, to);
            } else {
                constexpr int WORDS = larger(1, GROUPS / 2);
                affine_rows<BIT, GROUP_SIZE>(shared_address(weights) + row * 128, swizzle, mine,
                                             reinterpret_cast<const u32*>(weights + 2048) + lane / 4 * WORDS,
                                             group_sums + half * GROUPS * TOKENS, (deep & 1) != 0, to);
            }
        };
#pragma unroll 1
        for (int turn = 0; turn < unit.turns; turn++) {
            int stages[AT_ONCE], count[AT_ONCE], deep[AT_ONCE], most = 0;
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int chain = unit.chain(d, turn, i, half);
                stages[i] = unit.stages(d, turn, i);
                most = larger(most, stages[i]);
                count[i] = works && i < unit.at_once ? unit.count(d, chain) : 0;
                deep[i] = unit.start(d, chain);
            }
            if constexpr (Product<KIND>::STEP == 1) {
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++)
#pragma unroll 1
                    for (int k = 0; k < stages[i]; k++) add_stage(sums[i], deep[i] + k, k < count[i]);
            } else {
#pragma unroll 1
                for (int k = 0; k < most; k++)
#pragma unroll
                    for (int i = 0; i < AT_ONCE; i++)
                        if (k < stages[i]) add_stage(sums[i], deep[i] + k * WARPS, k < count[i]);
            }
            if constexpr (!IS_SHARED) {
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    const bool is_last_even = unit.halves == 1 && turn * AT_ONCE + i + 1 == unit.evens;
#pragma unroll
                    for (int j = 0; j < EIGHTS * 4; j++) {
                        float &sum = whole[j / 4][j % 4], &of_chain = sums[i][j / 4][j % 4];
                        sum += of_chain;
                        of_chain = 0.0f;
                        if (is_last_even) evens[j / 4][j % 4] = sum, sum = 0.0f;
                    }
                }
            }
        }
        if (IS_SHARED && works)
            while (part < cuts.parts) leave_part();
        if (unit.halves == 2) {
            float4* exchange = reinterpret_cast<float4*>(shared + ROWS_AT_EXCHANGE) + slot * (EIGHTS * 32) + lane;
            if (!IS_SHARED && half == 0 && works) {
#pragma unroll
                for (int i = 0; i < EIGHTS; i++) {
                    const float(&x)[4] = whole[i];
                    float4 four;
                    four.x = x[0], four.y = x[1], four.z = x[2], four.w = x[3];
                    exchange[i * 32] = four;
                }
            }
            __syncthreads();
            if (IS_SHARED && half == 1 && works)
                for (int part = 0; part < cuts.parts; part++)
                    Shared::join(places.to + part * places.stride, places.others + part * places.stride);
            if (!IS_SHARED && half == 1 && works) {
#pragma unroll
                for (int i = 0; i < EIGHTS; i++) {
                    const float4 x = exchange[i * 32];
                    evens[i][0] = x.x, evens[i][1] = x.y, evens[i][2] = x.z, evens[i][3] = x.w;
                }
            }
        }
        if (!IS_SHARED && works && half + 1 == unit.halves) {
#pragma unroll
            for (int i = 0; i < EIGHTS; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) evens[i][j] += whole[i][j];
            give(block, evens);
        }
    }
}

/// What the MLP's gates make of a row block's sums: the input of the product behind it, permuted.
__device__ __forceinline__ void activate_rows(u32* scratch, int block, Sums& sums) {
    const int lane = threadIdx.x % 32;
    u16* to = reinterpret_cast<u16*>(scratch + AT_ACTIVATED) + permuted<BITS>(block * 8 + lane / 4);
#pragma unroll
    for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int token = eight * 8 + lane % 4 * 2 + j;
            to[(u64)(u32)token * (2 * TOKEN_STRIDE)] = to_bf16(activate(sums[eight][j]) * sums[eight][2 + j]);
        }
}

__device__ __forceinline__ void write_logits(float* logits, int block, Sums& sums) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int token = eight * 8 + lane % 4 * 2 + j % 2;
            write_logit(logits + (u64)(u32)token * VOCAB, block, lane / 4 + j / 2 * 8, sums[eight][j]);
        }
}
