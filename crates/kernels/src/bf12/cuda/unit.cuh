// A unit: 8 rows times 128 columns of a bfloat16 matrix, in 12 bits an element and 32 bytes more.
//
// In a row of a unit, call the largest exponent its top. An element whose exponent is at most 15 below
// the top has a code, the exponent less (top - 15). Its 12 bits are the sign, the code and the mantissa:
// the lowest bit of the code and the mantissa are a low byte, as in a bfloat16; sign and upper three bits
// of the code are the bits 7 and 2 to 0 of a high byte, or-ed with 0x38. So it becomes a bfloat16 whose
// exponent is 112 + code, between 2^-15 and 2 in size, which is to be multiplied by 2^(top - 127).
//
// Lane l of a warp has 32 elements of the row l / 4: the columns 32 j + 8 (l % 4) + i, for j below 4
// and i below 8.
//
//      0  low bytes, for each lane the 16 of j = 0 and 1
//    512  the same of j = 2 and 3
//   1024  high bytes, for each lane a word for each j: those of i below 4, or-ed with those of the other
//         i rotated left by 4 bits, so that each lies in the other's gaps
//   1536  the top of each row, a byte, at least 16; 0 if the row is zeros, of which the signs remain
//   1544  rare elements, which have no code: four words of the bits, a one, and the row and the column
//         in the unit; 0 where there is none
//   1560  the address of a number of further such words, and the words; 0 if there are none
//
// In its place a rare element has sign, code and mantissa zero, which a product has to take back. Of
// normally distributed weights one of 20,000 is rare. The matrix ends in whole pairs of rows of units; in
// columns behind its last one there is anything, for the product to meet with zeros.

constexpr int UNIT_ROWS = 8, UNIT_COLUMNS = 128;
constexpr int UNIT_TOPS = 1536, UNIT_RARE = 1544, UNIT_MORE = 1560, UNIT_BYTES = 1568;
constexpr int RARE_HERE = 4;
constexpr unsigned RARE = 0x8000;

/// Four elements of 112 + code, from their low bytes and their high bytes.
struct Four {
    unsigned first, second;

    __device__ __forceinline__ Four(unsigned low, unsigned high)
        : first(with_high(__byte_perm(low, high, 0x5140))), second(with_high(__byte_perm(low, high, 0x7362))) {}

    static __device__ __forceinline__ unsigned with_high(unsigned pair) {
        return (pair & 0x87ff87ffu) | 0x38003800u;
    }
};

/// The high bytes of i from 4 on.
__device__ __forceinline__ unsigned second_half(unsigned high) { return __funnelshift_r(high, high, 4); }

/// What a row's elements are multiplied by, and what stands in the place of a rare one.
__device__ __forceinline__ float row_scale(unsigned top) { return __uint_as_float(top << 23); }
__device__ __forceinline__ float rare_place(unsigned top) {
    return top == 0 ? 0.0f : __uint_as_float((top - 15) << 23);
}

/// Gives each rare element of the unit at `unit` to `each(row, column, bits)`.
template <typename Each>
__device__ __forceinline__ void for_each_rare(const unsigned char* unit, Each each) {
    auto give = [&](unsigned word) {
        if (word & RARE) each((int)(word >> 7 & 7), (int)(word & 127), (unsigned short)(word >> 16));
    };
    const unsigned* here = reinterpret_cast<const unsigned*>(unit + UNIT_RARE);
#pragma unroll
    for (int i = 0; i < RARE_HERE; i++) give(here[i]);
    auto more = *reinterpret_cast<const unsigned* const*>(unit + UNIT_MORE);
    if (more == nullptr) return;
    const unsigned count = __ldg(more);
#pragma unroll 1
    for (unsigned i = 1; i <= count; i++) give(__ldg(more + i));
}

/// One element of the unit at `unit`.
__device__ __forceinline__ float unit_element(const unsigned char* unit, int row, int column) {
    const int j = column / 32, i = column % 8, lane = row * 4 + column / 8 % 4;
    const unsigned low = unit[j / 2 * 512 + lane * 16 + j % 2 * 8 + i];
    unsigned high = reinterpret_cast<const unsigned*>(unit + 1024)[lane * 4 + j];
    high = (i < 4 ? high : second_half(high)) >> 8 * (i % 4) & 0xff;
    const unsigned place = Four::with_high(high << 8 | low) & 0xffff;
    float x = row_scale(unit[UNIT_TOPS + row]) * __uint_as_float(place << 16);
    for_each_rare(unit, [&](int rare_row, int rare_column, unsigned short bits) {
        if (rare_row == row && rare_column == column) x = __uint_as_float((unsigned)bits << 16);
    });
    return x;
}
