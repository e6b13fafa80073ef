// Tiles of weights times the same columns of many tokens' inputs: what `product.cuh` has for few, the same products
// and sums in the same order. A tile is unpacked once and multiplied with eight tokens after eight.

constexpr int EIGHTS = TOKENS / 8;

/// Of eight tokens after eight, this lane's sums: of row lane / 4 for the tokens 2 (lane % 4) and the next, and the
/// same of row lane / 4 + 8.
typedef float Sums[EIGHTS][4];

/// What this lane reads of the inputs of a tile.
struct Inputs {
    const uint4* mine;
    int flip;

    /// `inputs`: of a tile of so many columns.
    __device__ __forceinline__ Inputs(const uint4* inputs, int columns) {
        const int row = threadIdx.x % 32 / 4;
        mine = inputs + row * (columns / 8) + threadIdx.x % 4;
        flip = row & 1;
    }
    /// The lanes' worth of B for the columns from 32 `step` on of eight tokens.
    template <int COLUMNS>
    __device__ __forceinline__ uint4 of(int eight, int step) const {
        return mine[eight * COLUMNS + (step ^ flip) * 4];
    }
};

/// `rows` and `swizzle` as in `multiply_tiles`.
__device__ __forceinline__ void dense_rows(u32 rows, int swizzle, const Inputs& inputs, Sums& sums) {
    uint4 a[4];
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = load_matrices(rows + ((i * 32) ^ swizzle));
#pragma unroll
    for (int eight = 0; eight < EIGHTS; eight++) {
        float c[2][4] = {};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint4 b = inputs.of<64>(eight, i), &a0 = a[2 * i], &a1 = a[2 * i + 1];
            multiply(c[0], a0.x, a0.y, a0.z, a0.w, b.x, b.y);
            multiply(c[1], a1.x, a1.y, a1.z, a1.w, b.z, b.w);
        }
#pragma unroll
        for (int j = 0; j < 4; j++) sums[eight][j] += c[0][j] + c[1][j];
    }
}

/// Adds to the sums of a unit's rows, the upper or the lower half, what its rare elements are beyond what stands
/// in their place. `tile`: of the inputs.
template <int LOWER>
__device__ __forceinline__ void add_rare_rows(const unsigned char* unit, const uint4* tile, Sums& sums) {
    const int lane = threadIdx.x % 32;
    auto add = [&](u32 rare) {
        const float more = bf16(rare >> 16) - rare_place(unit[UNIT_TOPS + (rare >> 7 & 7)]);
        for (u32 left = __ballot_sync(~0u, (rare & RARE) != 0); left != 0; left &= left - 1) {
            const int from = __ffs(left) - 1;
            const u32 word = __shfl_sync(~0u, rare, from);
            const float x = __shfl_sync(~0u, more, from);
            if (lane / 4 != (word >> 7 & 7)) continue;
            const int column = word & 127;
#pragma unroll
            for (int eight = 0; eight < EIGHTS; eight++)
#pragma unroll
                for (int j = 0; j < 2; j++) {
                    const int token = eight * 8 + lane % 4 * 2 + j;
                    const u16* row = reinterpret_cast<const u16*>(tile + token * 16 + input_place(token, column / 8));
                    sums[eight][2 * LOWER + j] += __fmul_rn(x, bf16(row[column % 8]));
                }
        }
    };
    add(lane < RARE_HERE ? reinterpret_cast<const u32*>(unit + UNIT_RARE)[lane] : 0);
    auto further = *reinterpret_cast<const u32* const*>(unit + UNIT_MORE);
    if (further == nullptr) return;
    const u32 count = __ldg(further);
#pragma unroll 1
    for (u32 first = 0; first < count; first += 32) add(first + lane < count ? __ldg(further + 1 + first + lane) : 0);
}

/// Eight elements as A has them, in the rows of an upper and of a lower unit.
struct Fragment {
    u32 a[4];

    __device__ __forceinline__ Fragment(u32 u_low, u32 l_low, u32 u_high, u32 l_high)
        : a{element_pair(u_low, u_high, 0x5140), element_pair(l_low, l_high, 0x5140),
            element_pair(u_low, u_high, 0x7362), element_pair(l_low, l_high, 0x7362)} {}

    /// As `Four` has it.
    static __device__ __forceinline__ u32 element_pair(u32 low, u32 high, u32 pick) {
        return masked_or(__byte_perm(low, high, pick), 0x87ff87ffu, 0x38003800u);
    }
};

/// Two units, which begin at `stage`.
__device__ __forceinline__ void units_rows(const unsigned char* stage, const uint4* tile, const Inputs& inputs, Sums& sums) {
    const int lane = threadIdx.x % 32;
    const unsigned char* second = stage + UNIT_BYTES;
    const uint4* u = reinterpret_cast<const uint4*>(stage) + lane;
    const uint4* l = reinterpret_cast<const uint4*>(second) + lane;
    const uint4 u_high = u[64], l_high = l[64], u0 = u[0], l0 = l[0], u1 = u[32], l1 = l[32];
    const Fragment a[8] = {{u0.x, l0.x, u_high.x, l_high.x}, {u0.y, l0.y, second_half(u_high.x), second_half(l_high.x)},
                           {u0.z, l0.z, u_high.y, l_high.y}, {u0.w, l0.w, second_half(u_high.y), second_half(l_high.y)},
                           {u1.x, l1.x, u_high.z, l_high.z}, {u1.y, l1.y, second_half(u_high.z), second_half(l_high.z)},
                           {u1.z, l1.z, u_high.w, l_high.w}, {u1.w, l1.w, second_half(u_high.w), second_half(l_high.w)}};
    const float u_scale = row_scale(stage[UNIT_TOPS + lane / 4]), l_scale = row_scale(second[UNIT_TOPS + lane / 4]);
#pragma unroll
    for (int eight = 0; eight < EIGHTS; eight++) {
        float c[2][4] = {};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint4 b = inputs.of<128>(eight, i);
            const u32(&a0)[4] = a[2 * i].a, (&a1)[4] = a[2 * i + 1].a;
            multiply(c[0], a0[0], a0[1], a0[2], a0[3], b.x, b.y);
            multiply(c[1], a1[0], a1[1], a1[2], a1[3], b.z, b.w);
        }
#pragma unroll
        for (int j = 0; j < 4; j++) sums[eight][j] += (j < 2 ? u_scale : l_scale) * (c[0][j] + c[1][j]);
    }
    constexpr int WORDS = (UNIT_BYTES - UNIT_RARE) / 4;
    const unsigned char* mine = lane < WORDS ? stage : second - 4 * WORDS;
    const u32 rare = __ballot_sync(~0u, lane < 2 * WORDS && *reinterpret_cast<const u32*>(mine + UNIT_RARE + 4 * lane) != 0);
    if (rare == 0) return;
    if (rare % (1 << WORDS) != 0) add_rare_rows<0>(stage, tile, sums);
    if (rare >> WORDS != 0) add_rare_rows<1>(second, tile, sums);
}

/// Packed weights; `scales`, `group_sums` and `odd` as in `affine_tile`, with all tokens' sums of a group together.
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void affine_rows(u32 rows, int swizzle, const Inputs& inputs, const u32* scales,
                                            const float* group_sums, bool odd, Sums& sums) {
    constexpr int TILE = tile_columns(BIT), GROUPS = TILE / GROUP_SIZE, IN_GROUP = GROUP_SIZE / 32;
    constexpr int WORDS = GROUPS == 1 ? 1 : GROUPS / 2;
    constexpr float OFFSET = BIT == 4 ? 128.0f : 128.0f * 17.0f;
    constexpr float HIGH = BIT == 4 ? 1.0f : 16.0f;
    u32 s0[WORDS], s1[WORDS], b0[WORDS], b1[WORDS];
    load_words(scales, s0);
    load_words(scales + 8 * WORDS, s1);
    load_words(scales + 16 * WORDS, b0);
    load_words(scales + 24 * WORDS, b1);
    const int lane = threadIdx.x % 32;
    uint4 two = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        uint4 a[IN_GROUP];
#pragma unroll
        for (int i = 0; i < IN_GROUP; i++) {
            const int step = g * IN_GROUP + i;
            if (BIT == 8) {
                a[i] = load_matrices(rows + ((step * 32) ^ swizzle));
            } else {
                if (step % 2 == 0) two = load_matrices(rows + ((step * 16) ^ swizzle));
                a[i] = step % 2 == 0 ? make_uint4(two.x, two.y, 0, 0) : make_uint4(two.z, two.w, 0, 0);
            }
        }
        const int word = GROUPS == 1 ? 0 : g / 2;
        const bool second = GROUPS == 1 ? odd : g % 2 != 0;
        const float scale0 = second ? bf16_high(s0[word]) : bf16_low(s0[word]);
        const float scale1 = second ? bf16_high(s1[word]) : bf16_low(s1[word]);
        const float offset0 = __fmaf_rn(-OFFSET, scale0, second ? bf16_high(b0[word]) : bf16_low(b0[word]));
        const float offset1 = __fmaf_rn(-OFFSET, scale1, second ? bf16_high(b1[word]) : bf16_low(b1[word]));
#pragma unroll
        for (int eight = 0; eight < EIGHTS; eight++) {
            float c[4] = {}, high[4] = {};
#pragma unroll
            for (int i = 0; i < IN_GROUP; i++) {
                const uint4 b = inputs.of<TILE>(eight, g * IN_GROUP + i);
                affine_step<BIT>(c, high, a[i].x, a[i].y, a[i].z, a[i].w, b);
            }
            const float2 sum = *reinterpret_cast<const float2*>(group_sums + g * TOKENS + eight * 8 + lane % 4 * 2);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float of_group = j % 2 == 0 ? sum.x : sum.y;
                sums[eight][j] = __fmaf_rn(j < 2 ? scale0 : scale1, __fmaf_rn(HIGH, high[j], c[j]),
                                           __fmaf_rn(j < 2 ? offset0 : offset1, of_group, sums[eight][j]));
            }
        }
    }
}
