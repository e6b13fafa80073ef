// From bfloat16 to units, a warp a unit. Rows and columns behind the matrix's are zeros, and the rows of
// units are an even number. Compiled behind `unit.cuh`; a row is whole runs of eight elements, and begins
// at a multiple of 16 bytes.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/// What a lane has of a unit: 32 elements of one row.
struct Mine {
    u32 pairs[16];  // of j = 0 the elements 0 and 1, then 2 and 3, and so on
    u32 top;
    u32 rare;  // a bit for each of them

    __device__ __forceinline__ u32 bits(int e) const { return pairs[e / 2] >> 16 * (e % 2) & 0xffff; }
    __device__ __forceinline__ u32 exponent(int e) const { return bits(e) >> 7 & 0xff; }

    __device__ __forceinline__ Mine(const u16* w, u32 unit, int rows, int columns) : top(0), rare(0) {
        const u32 deep = (columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
        const int lane = threadIdx.x % 32;
        const int row = unit / deep * UNIT_ROWS + lane / 4, first = unit % deep * UNIT_COLUMNS + 8 * (lane % 4);
        u32 any = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint4 eight = make_uint4(0, 0, 0, 0);
            if (row < rows && first + 32 * j < columns)
                eight = *reinterpret_cast<const uint4*>(w + (u64)row * columns + first + 32 * j);
            pairs[4 * j] = eight.x, pairs[4 * j + 1] = eight.y;
            pairs[4 * j + 2] = eight.z, pairs[4 * j + 3] = eight.w;
            any |= (eight.x | eight.y | eight.z | eight.w) & 0x7fff7fff;
        }
#pragma unroll
        for (int e = 0; e < 32; e++) top = max(top, exponent(e));
#pragma unroll
        for (int d = 1; d < 4; d *= 2) {
            top = max(top, __shfl_xor_sync(~0u, top, d));
            any |= __shfl_xor_sync(~0u, any, d);
        }
        if (any == 0) return;
        top = max(top, 16u);
#pragma unroll
        for (int e = 0; e < 32; e++) {
            const bool inside = first + e / 8 * 32 < columns;
            rare |= (u32)(inside && (exponent(e) == 0 || exponent(e) + 15 < top)) << e;
        }
    }

    /// Sign, code and mantissa of an element, where a bfloat16 has sign, exponent and mantissa; zero where
    /// there is no code.
    __device__ __forceinline__ u32 coded(int e) const {
        const bool has_code = exponent(e) != 0 && exponent(e) + 15 >= top;
        if (top == 0) return bits(e) & 0x8000;
        return has_code ? (bits(e) & 0x807f) | (exponent(e) - (top - 15)) << 7 : 0;
    }
};

/// How many rare elements lanes before this one have, and all.
struct Order {
    u32 before, all;

    __device__ __forceinline__ explicit Order(u32 rare) {
        const u32 lane = threadIdx.x % 32;
        u32 sum = __popc(rare);
        before = sum;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            u32 other = __shfl_up_sync(~0u, sum, d);
            if (lane >= d) sum += other;
        }
        before = sum - before;
        all = __shfl_sync(~0u, sum, 31);
    }
};

/// For each unit, the words that its further rare elements take, or -1 if it cannot be encoded: infinite
/// elements have no exponent to spare.
extern "C" __global__ void further_words(const u16* w, int* words, int units, int rows, int columns) {
    const u32 unit = my_unit();
    if (unit >= units) return;
    Mine mine(w, unit, rows, columns);
    Order order(mine.rare);
    const bool infinite = __any_sync(~0u, mine.top == 255);
    if (threadIdx.x % 32 == 0)
        words[unit] = infinite ? -1 : order.all > RARE_HERE ? (int)order.all - RARE_HERE + 1 : 0;
}

/// The units at `to`, and behind them the lists of further rare elements, in which that of a unit begins
/// at the word `first[unit]`.
extern "C" __global__ void encode(const u16* w, const int* first, unsigned char* to, int units, int rows, int columns) {
    const u32 unit = my_unit();
    if (unit >= units) return;
    Mine mine(w, unit, rows, columns);
    Order order(mine.rare);
    const int lane = threadIdx.x % 32;
    unsigned char* here = to + (u64)unit * UNIT_BYTES;
    u32 low[8], high[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        u32 halves[2] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            low[2 * j + half] = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const u32 coded = mine.coded(8 * j + 4 * half + i);
                low[2 * j + half] |= (coded & 0xff) << 8 * i;
                halves[half] |= (coded >> 8 & 0x87) << 8 * i;
            }
        }
        high[j] = halves[0] | __funnelshift_l(halves[1], halves[1], 4);
    }
    uint4* words = reinterpret_cast<uint4*>(here) + lane;
    words[0] = make_uint4(low[0], low[1], low[2], low[3]);
    words[32] = make_uint4(low[4], low[5], low[6], low[7]);
    words[64] = make_uint4(high[0], high[1], high[2], high[3]);
    if (lane % 4 == 0) here[UNIT_TOPS + lane / 4] = mine.top;

    u32* rare = reinterpret_cast<u32*>(here + UNIT_RARE);
    u32* more = reinterpret_cast<u32*>(to + (u64)units * UNIT_BYTES) + first[unit];
    if (lane < RARE_HERE && lane >= order.all) rare[lane] = 0;
    if (lane == 0) {
        const bool any = order.all > RARE_HERE;
        *reinterpret_cast<u64*>(here + UNIT_MORE) = any ? reinterpret_cast<u64>(more) : 0;
        if (any) *more = order.all - RARE_HERE;
    }
    u32 rank = order.before;
#pragma unroll
    for (int e = 0; e < 32; e++) {
        if ((mine.rare >> e & 1) == 0) continue;
        const u32 column = e / 8 * 32 + 8 * (lane % 4) + e % 8;
        const u32 word = mine.bits(e) << 16 | RARE | (u32)(lane / 4) << 7 | column;
        if (rank < RARE_HERE) {
            rare[rank] = word;
        } else {
            more[1 + rank - RARE_HERE] = word;
        }
        rank++;
    }
}
