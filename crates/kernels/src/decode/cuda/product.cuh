// Matrix times vector, on the matrix units: 16 rows of weights are A, the vectors are columns of B, one for
// each token. Of one token that is the first of eight, which uses an eighth of the units and costs far fewer
// instructions than multiplying in the lanes, which is what a memory-bound product must save. A column's sums
// do not depend on the others, so a token's bits do not depend on how many there are.
//
// A vector lies in shared memory in bfloat16, permuted within each 32 elements so that the
// 16 bytes of lane t % 4 hold the partners of what `load_matrices` gives that lane:
//
//   bfloat16  k = 8c + 2t + e      of column c: the pairs of the four columns
//   8 bits    k = 16c + 4t + j     of column c: the pairs (0,2) and (1,3) of a word's four bytes
//   4 bits    k = 8t + j           the pairs (0,4), (1,5), (2,6), (3,7) of a word's eight nibbles
//   12 bits   k = 8t + j           the pairs of neighbours, so the vector lies as it is
//
// because `word >> 4i & 0x000f000f` are two nibbles half a word apart. Or-ed with 0x4300 they are
// the bfloat16 numbers 128 + q, exactly; a byte is two nibbles, for two products. So with s and b
// the scale and bias of a group, its part of the sum is
//   s sum((128 + q) x) + (b - 128 s) sum(x),
// where the sums of x were taken once for all rows.

/// Where element `k` of an input goes for weights of `BIT` bits.
template <int BIT>
__device__ __forceinline__ int permuted(int k) {
    int low = k & 31;
    int place = BIT == 16  ? (low >> 1 & 3) * 8 + (low >> 3) * 2 + (low & 1)
                : BIT == 12 ? low
                : BIT == 8 ? (low >> 2 & 3) * 8 + (low >> 4) * 4 + (low & 1) * 2 + (low >> 1 & 1)
                           : (low >> 3) * 8 + (low & 3) * 2 + (low >> 2 & 1);
    return (k & ~31) + place;
}

/// Tokens whose sums a lane has: those of columns 2 (lane % 4) and the next.
constexpr int EACH = TOKENS == 1 ? 1 : 2;
/// Whether this lane has any.
__device__ __forceinline__ bool has_sums() { return threadIdx.x % 4 * 2 < TOKENS; }

/// The lanes' worth of B for 32 columns of the inputs. Only the first columns of the product are wanted, so only
/// the lanes that hold them read; the other columns are zeros.
__device__ __forceinline__ uint4 tokens_columns(const uint4* x) {
    uint4 b = make_uint4(0, 0, 0, 0);
    if (threadIdx.x % 32 < 4 * TOKENS) b = *x;
    return b;
}

/// One tile of bfloat16 weights: adds to the sums of rows lane / 4 and that + 8.
__device__ __forceinline__ void dense_tile(u32 rows, int swizzle, const uint4* x, float (&upper)[EACH],
                                           float (&lower)[EACH]) {
    float c[2][4] = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint4 b = tokens_columns(x + i * 4);
        uint4 a = load_matrices(rows + ((i * 4 * 16) ^ swizzle));
        multiply(c[0], a.x, a.y, a.z, a.w, b.x, b.y);
        a = load_matrices(rows + ((i * 4 * 16 + 32) ^ swizzle));
        multiply(c[1], a.x, a.y, a.z, a.w, b.z, b.w);
    }
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        upper[j] += c[0][j] + c[1][j];
        lower[j] += c[0][2 + j] + c[1][2 + j];
    }
}

/// Adds to the sums of a unit's rows what its rare elements are beyond what stands in their place.
__device__ __forceinline__ void add_rare(const unsigned char* unit, const u16* input, float (&sum)[EACH]) {
    const int lane = threadIdx.x % 32;
    // Each lane has one of them or 0, and a row's sums are in its first lanes.
    auto add = [&](u32 rare) {
        const int row = rare >> 7 & 7;
        float more = bf16(rare >> 16) - rare_place(unit[UNIT_TOPS + row]);
        if (TOKENS == 1) more *= bf16(input[rare & 127]);
        for (u32 left = __ballot_sync(~0u, (rare & RARE) != 0); left != 0; left &= left - 1) {
            const int from = __ffs(left) - 1;
            const int to = 4 * __shfl_sync(~0u, row, from);
            const float x = __shfl_sync(~0u, more, from);
            if constexpr (TOKENS == 1) {
                if (lane == to) sum[0] += x;
            } else {
                const int column = __shfl_sync(~0u, rare & 127, from);
                if (lane / 4 != to / 4 || !has_sums()) continue;
                // Rounded before it is added, as that of one token is.
#pragma unroll
                for (int j = 0; j < EACH; j++)
                    sum[j] += __fmul_rn(x, bf16(input[(lane % 4 * 2 + j) * INPUT_STRIDE + column]));
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

/// One tile of two units, which begin at `stage`; `input` are the tile's columns of it, and `x` this
/// lane's of these.
__device__ __forceinline__ void units_tile(const unsigned char* stage, const u16* input, const uint4* x,
                                           float (&upper)[EACH], float (&lower)[EACH]) {
    const int lane = threadIdx.x % 32;
    const unsigned char* second = stage + UNIT_BYTES;
    const uint4* u = reinterpret_cast<const uint4*>(stage) + lane;
    const uint4* l = reinterpret_cast<const uint4*>(second) + lane;
    float c[2][4] = {};
    uint4 u_high = u[64], l_high = l[64];
    auto step = [&](int i, u32 u_low, u32 l_low, u32 u_high, u32 l_high, u32 b0, u32 b1) {
        Four of_upper(u_low, u_high), of_lower(l_low, l_high);
        multiply(c[i], of_upper.first, of_lower.first, of_upper.second, of_lower.second, b0, b1);
    };
    auto steps = [&](int j, u32 u_low0, u32 u_low1, u32 l_low0, u32 l_low1, u32 u_high, u32 l_high) {
        uint4 b = tokens_columns(x + j * 4);
        step(0, u_low0, l_low0, u_high, l_high, b.x, b.y);
        step(1, u_low1, l_low1, second_half(u_high), second_half(l_high), b.z, b.w);
    };
    uint4 u_low = u[0], l_low = l[0];
    steps(0, u_low.x, u_low.y, l_low.x, l_low.y, u_high.x, l_high.x);
    steps(1, u_low.z, u_low.w, l_low.z, l_low.w, u_high.y, l_high.y);
    u_low = u[32], l_low = l[32];
    steps(2, u_low.x, u_low.y, l_low.x, l_low.y, u_high.z, l_high.z);
    steps(3, u_low.z, u_low.w, l_low.z, l_low.w, u_high.w, l_high.w);
    const u32 u_top = stage[UNIT_TOPS + lane / 4], l_top = second[UNIT_TOPS + lane / 4];
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        upper[j] += row_scale(u_top) * (c[0][j] + c[1][j]);
        lower[j] += row_scale(l_top) * (c[0][2 + j] + c[1][2 + j]);
    }

    constexpr int WORDS = (UNIT_BYTES - UNIT_RARE) / 4;
    const unsigned char* mine = lane < WORDS ? stage : second - 4 * WORDS;
    if (__any_sync(~0u, lane < 2 * WORDS && *reinterpret_cast<const u32*>(mine + UNIT_RARE + 4 * lane) != 0)) {
        add_rare(stage, input, upper);
        add_rare(second, input, lower);
    }
}

/// The products of 32 columns of packed weights with `b`; `u` and `l` are the words of the upper
/// and the lower row, for 8 bits of both columns.
template <int BIT>
__device__ __forceinline__ void affine_step(float (&c)[4], float (&high)[4], u32 u0, u32 l0, u32 u1, u32 l1, uint4 b) {
    if (BIT == 4) {
        multiply(c, nibbles(u0), nibbles(l0), nibbles(u0 >> 4), nibbles(l0 >> 4), b.x, b.y);
        multiply(high, nibbles(u0 >> 8), nibbles(l0 >> 8), nibbles(u0 >> 12), nibbles(l0 >> 12), b.z, b.w);
    } else {
        multiply(c, nibbles(u0), nibbles(l0), nibbles(u0 >> 8), nibbles(l0 >> 8), b.x, b.y);
        multiply(high, nibbles(u0 >> 4), nibbles(l0 >> 4), nibbles(u0 >> 12), nibbles(l0 >> 12), b.x, b.y);
        multiply(c, nibbles(u1), nibbles(l1), nibbles(u1 >> 8), nibbles(l1 >> 8), b.z, b.w);
        multiply(high, nibbles(u1 >> 4), nibbles(l1 >> 4), nibbles(u1 >> 12), nibbles(l1 >> 12), b.z, b.w);
    }
}

/// The words of one row's scales, in one access.
template <int WORDS>
__device__ __forceinline__ void load_words(const u32* from, u32 (&to)[WORDS]) {
    if constexpr (WORDS == 4) {
        uint4 v = *reinterpret_cast<const uint4*>(from);
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (WORDS == 2) {
        uint2 v = *reinterpret_cast<const uint2*>(from);
        to[0] = v.x, to[1] = v.y;
    } else {
        to[0] = *from;
    }
}

/// One tile of packed weights. `scales` is this lane's upper row's first word of scales, `sums` the
/// sums of x over the tile's groups, TOKENS for each, from this lane's first token on; `odd` whether a tile of one group has the second of its word.
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void affine_tile(u32 rows, int swizzle, const uint4* x, const u32* scales,
                                            const float* sums, bool odd, float (&upper)[EACH],
                                            float (&lower)[EACH]) {
    constexpr int TILE = tile_columns(BIT), GROUPS = TILE / GROUP_SIZE, STEPS = GROUP_SIZE / 32;
    constexpr int WORDS = GROUPS == 1 ? 1 : GROUPS / 2;
    // Offset and weight of the second accumulator: both halves of a byte, or one nibble more.
    constexpr float OFFSET = BIT == 4 ? 128.0f : 128.0f * 17.0f;
    constexpr float HIGH = BIT == 4 ? 1.0f : 16.0f;
    u32 s0[WORDS], s1[WORDS], b0[WORDS], b1[WORDS];
    load_words(scales, s0);
    load_words(scales + 8 * WORDS, s1);
    load_words(scales + 16 * WORDS, b0);
    load_words(scales + 24 * WORDS, b1);
    uint4 a = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        float c[4] = {}, high[4] = {};
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            int step = g * STEPS + i;
            uint4 b = tokens_columns(x + step * 4);
            if (BIT == 8) {
                a = load_matrices(rows + ((step * 32) ^ swizzle));
                affine_step<8>(c, high, a.x, a.y, a.z, a.w, b);
            } else if (step % 2 == 0) {
                a = load_matrices(rows + ((step * 16) ^ swizzle));
                affine_step<4>(c, high, a.x, a.y, 0, 0, b);
            } else {
                affine_step<4>(c, high, a.z, a.w, 0, 0, b);
            }
        }
        int word = GROUPS == 1 ? 0 : g / 2;
        bool second = GROUPS == 1 ? odd : g % 2 != 0;
        float scale0 = second ? bf16_high(s0[word]) : bf16_low(s0[word]);
        float scale1 = second ? bf16_high(s1[word]) : bf16_low(s1[word]);
        float bias0 = second ? bf16_high(b0[word]) : bf16_low(b0[word]);
        float bias1 = second ? bf16_high(b1[word]) : bf16_low(b1[word]);
        // What is rounded when is said, and not left to the compiler, so that it is the same for any TOKENS.
        auto add = [&](float& to, float scale, float bias, float c, float high, float sum) {
            float offset = __fmaf_rn(-OFFSET, scale, bias);
            to = __fmaf_rn(scale, __fmaf_rn(HIGH, high, c), __fmaf_rn(offset, sum, to));
        };
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            float sum = sums[g * TOKENS + j];
            add(upper[j], scale0, bias0, c[j], high[j], sum);
            add(lower[j], scale1, bias1, c[2 + j], high[2 + j], sum);
        }
    }
}

/// This warp's tiles of a product with the inputs in shared memory, or those of slice `slice` of it. Its sums
/// over a row block go to `pieces`, 16 times TOKENS of them, at [row block of the thread block][chain].
template <int BIT, int GROUP_SIZE>
__device__ __forceinline__ void multiply_tiles(Stream& stream, const Line& line, const u16* input, const float* sums,
                                               const unsigned char* ring, float* pieces, int slice = 0) {
    constexpr int TILE = tile_columns(BIT);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int begin = line.begin;
    int left = line.count;
    int block = (u32)begin / (u32)line.deep, deep = begin - block * line.deep;
    block -= (u32)line.first / (u32)line.deep;
    const int first_block = block, first_deep = deep, first_column = slice * line.width;
    if constexpr (SLICED) seek(slice, line.width, line.step, line.deep, block, deep, left);
    // Of a row block's chains a warp has its own, or one run after the other.
    constexpr bool IN_RUNS = is_affine(BIT) && HIDDEN >= 2048;
    pieces += TOKENS == 1 ? lane / 4 : lane / 4 * TOKENS + lane % 4 * 2;
    float* piece = pieces;
    auto find_piece = [&] {
        const int chain = line.step != 1 ? warp : IN_RUNS ? (u32)deep / (u32)line.run : 0;
        piece = pieces + (block * (line.step != 1 ? WARPS : line.runs) + chain) * 16 * TOKENS;
    };
    find_piece();
    int until = line.deep;
    auto find_until = [&] {
        if (IN_RUNS && line.step == 1) until = smaller(deep - (u32)deep % (u32)line.run + line.run, line.deep);
    };
    find_until();
    // The row this lane names to `load_matrices`, and the xor that finds its columns.
    const int row = (lane >> 3 & 1) * 8 + lane % 8;
    const int swizzle = ((lane >> 4) ^ (lane % 8)) * 16;
    const uint4* x = reinterpret_cast<const uint4*>(input) + lane % 4;
    if (TOKENS > 1) x += lane / 4 * (INPUT_STRIDE / 8);
    if (TOKENS > 1) sums += has_sums() ? lane % 4 * 2 : 0;
    float upper[EACH] = {}, lower[EACH] = {};
    // Goes on with what a slice before this left.
    auto take_up = [&] {
        if (!SLICED || slice == 0 || !has_sums()) return;
        const int before = deep - line.step;
        if (before < (block == first_block ? first_deep : 0)) return;
        if (IN_RUNS && line.step == 1 && (u32)deep % (u32)line.run == 0) return;
#pragma unroll
        for (int j = 0; j < EACH; j++) upper[j] = piece[j], lower[j] = piece[8 * TOKENS + j];
    };
    if (left > 0) take_up();
#pragma unroll 1
    for (; left > 0; left--) {
        u32 rows = stream.oldest() + row * 128;
        const int here = TOKENS == 1 ? deep : deep - first_column;
        const uint4* tile_x = x + here * (TILE / 8);
        if constexpr (BIT == 16) {
            dense_tile(rows, swizzle, tile_x, upper, lower);
        } else if constexpr (BIT == 12) {
            const unsigned char* stage = ring + (warp * RING_STAGES + stream.take) * STAGE_BYTES;
            units_tile(stage, input + here * TILE, tile_x, upper, lower);
        } else {
            constexpr int GROUPS = TILE / GROUP_SIZE, WORDS = larger(1, GROUPS / 2);
            const unsigned char* stage = ring + (warp * RING_STAGES + stream.take) * STAGE_BYTES;
            affine_tile<BIT, GROUP_SIZE>(rows, swizzle, tile_x,
                                         reinterpret_cast<const u32*>(stage + 2048) + lane / 4 * WORDS,
                                         sums + here * GROUPS * TOKENS, (deep & 1) != 0, upper, lower);
        }
        stream.advance();
        deep += line.step;
        if (deep >= until || left == 1 || (SLICED && deep >= first_column + line.width)) {
            if (TOKENS == 1 ? lane % 4 == 0 : has_sums()) {
#pragma unroll
                for (int j = 0; j < EACH; j++) {
                    piece[j] = upper[j];
                    piece[8 * TOKENS + j] = lower[j];
                }
            }
#pragma unroll
            for (int j = 0; j < EACH; j++) upper[j] = lower[j] = 0.0f;
            if constexpr (SLICED) {
                int rest = left - 1;
                for (; deep >= line.deep; deep -= line.deep) block++;
                seek(slice, line.width, line.step, line.deep, block, deep, rest);
                find_piece();
                find_until();
                left = rest + 1;
                if (rest > 0) take_up();
            } else if (IN_RUNS && line.step == 1) {
                if (deep >= line.deep) deep -= line.deep;
                until = smaller(deep + line.run, line.deep);
                piece += 16 * TOKENS;
            } else {
                for (; deep >= line.deep; deep -= line.deep) piece += line.step * 16 * TOKENS;
            }
        }
    }
    __syncthreads();
}

/// Sums the chains of each row of this thread block and gives them to `write(token, block, row,
/// sum)`, or, for the gate, `write(token, block, row, gate, up)` with 8 rows a block.
///
/// Those of a row that blocks share are added in pairs, and these in their order; else first those of even numbers,
/// and then those of odd ones. Another kernel may so have a pair, or either half, in a place of its own (`rows.cuh`).
template <int KIND, typename Write>
__device__ __forceinline__ void gather(const float* pieces, Write write) {
    typedef Product<KIND> P;
    Line line = Line::of_kind<KIND>();
    if (line.first == line.end) return;
    int first = line.first / P::DEEP, end = (line.end - 1) / P::DEEP + 1;
    // A thread has a row of so many tokens.
    constexpr int SOME = smaller(TOKENS, 4), ROWS = KIND == GATE_UP ? 8 : 16, SUMS = ROWS * TOKENS / SOME;
    constexpr int CHAINS = P::CHAINS, SIDES = KIND == GATE_UP ? 2 : 1;
    for (int i = threadIdx.x; i < (end - first) * SUMS; i += THREADS) {
        int block = i / SUMS, row = i / (TOKENS / SOME) % ROWS, token = i % (TOKENS / SOME) * SOME;
        int from = larger((first + block) * P::DEEP, line.first);
        int to = smaller((first + block + 1) * P::DEEP, line.end);
        // Which chains have a tile; in the place of the others there is anything.
        auto is_there = [&](int chain) {
            if constexpr (!P::SPLIT) {
                return P::STEP == 1 || P::DEEP >= WARPS || ((chain - from) & (WARPS - 1)) < to - from;
            } else if constexpr (P::STEP == 1) {
                const int tile = (first + block) * P::DEEP + chain * P::RUN;
                return tile < to && tile + P::RUN > from;
            } else {
                return ((chain - from) & (WARPS - 1)) < to - from;
            }
        };
        float pieces_of[CHAINS][SIDES][SOME], sum[SIDES][SOME] = {}, other[SIDES][SOME] = {};
#pragma unroll
        for (int chain = 0; chain < CHAINS; chain++) {
            const float* piece = pieces + ((block * CHAINS + chain) * 16 + row) * TOKENS + token;
            const bool there = is_there(chain);
#pragma unroll
            for (int side = 0; side < SIDES; side++)
#pragma unroll
                for (int t = 0; t < SOME; t++)
                    pieces_of[chain][side][t] = there ? piece[8 * side * TOKENS + t] : 0.0f;
        }
#pragma unroll
        for (int chain = 0; chain < CHAINS; chain++)
#pragma unroll
            for (int side = 0; side < SIDES; side++)
#pragma unroll
                for (int t = 0; t < SOME; t++) {
                    const float piece = pieces_of[chain][side][t];
                    if constexpr (P::SPLIT) {
                        other[side][t] = chain % 2 == 0 ? piece : other[side][t] + piece;
                        if (chain % 2 == 1 || chain == CHAINS - 1) sum[side][t] += other[side][t];
                    } else {
                        (chain % 2 == 0 ? sum : other)[side][t] += piece;
                    }
                }
#pragma unroll
        for (int t = 0; t < SOME; t++) {
            if constexpr (KIND == GATE_UP) {
                write(token + t, first + block, row, sum[0][t] + other[0][t], sum[1][t] + other[1][t]);
            } else {
                write(token + t, first + block, row, P::SPLIT ? sum[0][t] : sum[0][t] + other[0][t]);
            }
        }
    }
}

/// One thread block's partial sum of a row that others may share: into its own place, so that the
/// readers add them in a fixed order. The block that has a row's end clears the places behind.
template <int KIND>
__device__ __forceinline__ void write_partial(float* to, int block, int row, float sum) {
    typedef Product<KIND> P;
    int part = blockIdx.x - P::owner(block * P::DEEP);
    int at = block * 16 + row;
    to[part * P::ROWS + at] = sum;
    if ((block + 1) * P::DEEP <= P::first(blockIdx.x + 1))
        for (part++; part < P::PARTIALS; part++) to[part * P::ROWS + at] = 0.0f;
}

/// What a gate makes of its sum.
__device__ __forceinline__ float activate(float x) {
    if (GELU) {
        // What is rounded when is said, so that it is the same in all kernels.
        const float cube = __fmul_rn(__fmul_rn(0.044715f, x), x);
        const float inner = __fmul_rn(0.7978845608028654f, __fmaf_rn(cube, x, x));
        return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, tanhf(inner)));
    }
    return x / (1.0f + exp2_fast(-1.4426950408889634f * x));
}

/// A row's sum as a logit.
__device__ __forceinline__ float logit_of(float sum) {
    if constexpr (SOFTCAP > 0.0f) sum = SOFTCAP * tanhf(sum / SOFTCAP);
    return sum;
}

/// To its place. See `Cursor::aim`: the last row block may begin early, or end late.
__device__ __forceinline__ void write_logit(float* logits, int block, int row, float sum) {
    sum = logit_of(sum);
    int at = VOCAB % 16 == 0 || LM_HEAD_BITS == 12 ? block * 16 + row : smaller(block * 16, VOCAB - 16) + row;
    if (at >= block * 16 && at < VOCAB) logits[at] = sum;
}
