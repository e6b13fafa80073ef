// A row of logits under way: as weights, in bins by how far they are below the largest.
//
// What weights are added to are whole numbers, so sums are the same in whatever order threads come.

typedef unsigned int u32;
typedef unsigned long long u64;

const int WARPS = THREADS / 32;
/// Logits of a block.
const u32 PART = THREADS * EACH;

/// Bins, each of a 64th of a nat; the last one has all that is farther down.
const u32 BINS = 2048;
/// Steps of a bin.
const u32 STEPS = 8192;

/// A weight of 1.
#define ONE 1099511627776.0f

/// What blocks know of a row in common. Behind it are two words for each part: the largest logit with its place, and
/// how many of the logits were finite, with 2^40 for each that was no number.
struct Work {
    u64 mass[BINS];
    /// With the temperature.
    u64 tempered[BINS];
    /// Of the weights, times how far down they are.
    u64 moment[BINS];
    u32 count[BINS];
    /// Places that are taken.
    u32 taken[BINS];
    u32 ticket, rest;
};

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }

/// How far something is, in 2^24 steps.
__device__ __forceinline__ u32 steps(float away) { return __float2uint_rz(fminf(away * 524288.0f, 16777215.0f)); }

/// The weight of a logit that is so much below another.
__device__ __forceinline__ u64 weight(float below) { return __float2ull_rn(exp2f(below * -1.44269504088896f) * ONE); }

__device__ __forceinline__ u64 moment(float below) {
    return below < 80.0f ? __float2ull_rn(exp2f(below * -1.44269504088896f) * below * ONE) : 0;
}

/// What below is divided by is the temperature.
__device__ __forceinline__ float per_temperature(float temperature) { return fminf(1.0f / temperature, 3e38f); }

/// Of a row: the largest logit with the complement of its place, and the count of the second words.
struct Found {
    u64 best, count;

    __device__ bool are_numbers() const { return count != 0 && count < 1ull << 40; }
    __device__ float max() const { return unordered((u32)(best >> 32)); }
    /// Whether anything can be drawn.
    __device__ bool is_finite() const { return fabsf(max()) < -minus_infinity(); }
};

/// Of all lanes.
__device__ __forceinline__ Found of_warp(Found found) {
#pragma unroll 1
    for (int d = 16; d > 0; d >>= 1) {
        const u64 best = __shfl_xor_sync(~0u, found.best, d);
        if (best > found.best) found.best = best;
        found.count += __shfl_xor_sync(~0u, found.count, d);
    }
    return found;
}

/// Of all parts of a row, in each warp.
__device__ __forceinline__ Found of_parts(const Work* work, u32 parts) {
    const u64* words = (const u64*)(work + 1);
    Found found = {0, 0};
#pragma unroll 1
    for (u32 part = threadIdx.x % 32; part < parts; part += 32) {
        if (words[2 * part] > found.best) found.best = words[2 * part];
        found.count += words[2 * part + 1];
    }
    return of_warp(found);
}

/// A sum that several threads add to.
struct Sum {
    u32 low, high;

    __device__ __forceinline__ void add(u64 x) {
        const u32 before = atomicAdd(&low, (u32)x);
        const u32 more = (u32)(x >> 32) + (before + (u32)x < before);
        if (more != 0) atomicAdd(&high, more);
    }
    __device__ __forceinline__ u64 get() const { return (u64)high << 32 | low; }
};
