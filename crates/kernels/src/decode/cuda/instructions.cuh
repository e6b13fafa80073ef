// The instructions that CUDA C++ has no name for, and nothing else, so that `tools/decode/emulated.h`
// can put others in their place, as in that of tiles.cuh: products of matrix fragments, conversions, accesses
// that order others.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

/// As `copy16`, with 4 bytes.
__device__ __forceinline__ void copy4(u32 to, u64 from, int bytes) {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/// c += A B for 16x16 A and 16x8 B of bfloat16, with float32 sums.
__device__ __forceinline__ void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// Rounds to nearest, ties to even.
__device__ __forceinline__ u16 to_bf16(float x) {
    u16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}

/// `low` into the lower half, the first in memory.
__device__ __forceinline__ u32 to_bf16x2(float low, float high) {
    u32 y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

/// The bits of `word` that `mask` has, and those of `more`, in one instruction.
__device__ __forceinline__ u32 masked_or(u32 word, u32 mask, u32 more) {
    u32 y;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(word), "r"(mask), "r"(more));
    return y;
}

/// Two nibbles as bfloat16 numbers 128 + q.
__device__ __forceinline__ u32 nibbles(u32 word) {
    u32 y;
    asm("lop3.b32 %0, %1, 0x000f000f, 0x43004300, 0xea;" : "=r"(y) : "r"(word));
    return y;
}

/// Adds 1. Whoever reads the sum with `read_acquire` sees what was written before, in this thread or,
/// with a barrier between, in this block.
__device__ __forceinline__ void add_release(u32* to) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
}

__device__ __forceinline__ u32 read_acquire(const u32* from) {
    u32 x;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(from) : "memory");
    return x;
}

/// Both at once; returns what was there before.
__device__ __forceinline__ u32 add_acquire_release(u32* to) {
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(to) : "memory");
    return before;
}

/// Brings the line of an address into the second-level cache.
__device__ __forceinline__ void prefetch_line(u64 from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }

/// Brings `bytes`, a multiple of 16, into the second-level cache.
__device__ __forceinline__ void prefetch_bytes(u64 from, int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes));
#else
#pragma unroll 1
    for (int i = 0; i < bytes; i += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"(from + i));
#endif
}
