// From units to chosen rows of bfloat16, bit for bit. Compiled behind `unit.cuh` and `warp.cuh`.

/// The rows `ids`, a block a row. An id outside the matrix is that of its first or last row.
extern "C" __global__ void unpack_rows(const unsigned char* from, const int* ids, u16* to, int rows, int columns) {
    const int id = ids[blockIdx.x], row = id < 0 ? 0 : id >= rows ? rows - 1 : id;
    const u64 deep = (columns + UNIT_COLUMNS - 1) / UNIT_COLUMNS;
    const unsigned char* of_row = from + row / UNIT_ROWS * deep * UNIT_BYTES;
    for (int column = threadIdx.x; column < columns; column += blockDim.x) {
        const float x = unit_element(of_row + (u64)(column / UNIT_COLUMNS) * UNIT_BYTES, row % UNIT_ROWS,
                                     column % UNIT_COLUMNS);
        to[(u64)blockIdx.x * columns + column] = __float_as_uint(x) >> 16;
    }
}
