// The largest of each row of float32 numbers: parts of the rows first, then the parts of each row.

// A part's largest number and where it is, the first of several; NaN if one of them is.
struct Best {
    float value;
    int at;
};

__device__ __forceinline__ Best better(Best a, Best b) {
    // NaN is not larger than anything, so it is asked for.
    bool second = a.value == a.value && (b.value != b.value || b.value > a.value || (b.value == a.value && b.at < a.at));
    return second ? b : a;
}

/// Of all threads of the block, in the first one.
__device__ __forceinline__ Best of_block(Best best) {
    __shared__ Best of_warps[THREADS / 32];
    for (int d = 16; d > 0; d >>= 1) {
        Best other = {__shfl_xor_sync(~0u, best.value, d), __shfl_xor_sync(~0u, best.at, d)};
        best = better(best, other);
    }
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = best;
    __syncthreads();
    for (int w = 1; threadIdx.x == 0 && w < THREADS / 32; w++) best = better(best, of_warps[w]);
    return best;
}

/// Rows of `columns` numbers, block (p, row) the part [p each, (p + 1) each) of them.
extern "C" __global__ void largest_of_parts(const float* x, float* values, int* places, int columns, int each) {
    const float* row = x + (unsigned long long)blockIdx.y * columns;
    const int begin = blockIdx.x * each, end = begin + each < columns ? begin + each : columns;
    Best best = {-__int_as_float(0x7f800000), begin};
    for (int i = begin + threadIdx.x; i < end; i += THREADS) best = better(best, Best{row[i], i});
    best = of_block(best);
    if (threadIdx.x != 0) return;
    values[blockIdx.y * gridDim.x + blockIdx.x] = best.value;
    places[blockIdx.y * gridDim.x + blockIdx.x] = best.at;
}

/// `id`: where each row's largest number is, a place within the row whatever the numbers are; `seen`: the same,
/// or -1 if it is not finite.
extern "C" __global__ void largest_of_rows(const float* values, const int* places, int* id, int* seen, int parts) {
    Best best = {-__int_as_float(0x7f800000), 0x7fffffff};
    for (int i = threadIdx.x; i < parts; i += THREADS)
        best = better(best, Best{values[blockIdx.x * parts + i], places[blockIdx.x * parts + i]});
    best = of_block(best);
    if (threadIdx.x != 0) return;
    const bool finite = fabsf(best.value) < __int_as_float(0x7f800000);
    id[blockIdx.x] = finite ? best.at : 0;
    seen[blockIdx.x] = finite ? best.at : -1;
}
