// From units to bfloat16, bit for bit. Compiled behind `unit.cuh` and `warp.cuh`.

/// Both elements of a pair of 112 + code times `scale`, a power of two twice: what comes out is no smaller
/// than the smallest normal number, so nothing is rounded.
__device__ __forceinline__ u32 scaled(u32 pair, u32 scale) {
    u32 product;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(pair), "r"(scale), "r"(0x80008000u));
    return product;
}

/// All of a matrix, a warp a unit. A lane takes eight elements of each second row, so that a warp stores
/// whole rows of the unit, two at a time.
extern "C" __global__ void unpack(const unsigned char* from, u16* to, int units, int rows, int columns) {
    const u32 unit = my_unit(), deep = (columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
    if (unit >= units) return;
    const int lane = threadIdx.x % 32, column = lane % 16 * 8, j = column / 32;
    const unsigned char* here = from + (u64)unit * UNIT_BYTES;
    uint2 low[4];
    u32 high[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int owner = (2 * i + lane / 16) * 4 + lane % 4;
        low[i] = __ldcs(reinterpret_cast<const uint2*>(here + j / 2 * 512 + owner * 16) + j % 2);
        high[i] = __ldcs(reinterpret_cast<const u32*>(here + 1024 + owner * 16) + j);
    }
    const uint2 tops = *reinterpret_cast<const uint2*>(here + UNIT_TOPS);
    const u32 rare = reinterpret_cast<const u32*>(here + UNIT_RARE)[lane % ((UNIT_BYTES - UNIT_RARE) / 4)];
    const int first_row = unit / deep * UNIT_ROWS, first = unit % deep * UNIT_COLUMNS;
    u16* here_to = to + (u64)first_row * columns + first;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = 2 * i + lane / 16;
        const u32 scale = ((i < 2 ? tops.x : tops.y) >> 8 * (row % 4) & 0xff) * 0x00800080u;
        Four a(low[i].x, high[i]), b(low[i].y, second_half(high[i]));
        if (first_row + row < rows && first + column < columns)
            *reinterpret_cast<uint4*>(here_to + (u64)row * columns + column) =
                make_uint4(scaled(a.first, scale), scaled(a.second, scale), scaled(b.first, scale), scaled(b.second, scale));
    }
    if (!__any_sync(~0u, rare != 0)) return;
    // Of what this lane has written, so they come after it.
    for_each_rare(here, [&](int row, int column, u16 bits) {
        if (lane == row % 2 * 16 + column / 8) here_to[(u64)row * columns + column] = bits;
    });
}
