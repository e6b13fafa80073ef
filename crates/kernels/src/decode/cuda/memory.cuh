// The instructions that CUDA C++ has no name for: asynchronous copies into shared memory, matrix
// fragments, the matrix product itself, and accesses that bypass the first-level cache.

__device__ __forceinline__ u32 shared_address(const void* p) {
    return (u32)__cvta_generic_to_shared(p);
}

/// Copies 16 bytes from device memory, of which all behind the first `bytes` become zero.
__device__ __forceinline__ void copy16(u32 to, u64 from, int bytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(bytes)
                 : "memory");
}

/// The same with 4 bytes.
__device__ __forceinline__ void copy4(u32 to, u64 from, int bytes) {
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/// Closes this thread's current group of copies.
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most `PENDING` of this thread's groups of copies are under way.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8, and
/// receives the two elements 2 (l % 4) and the next of row l / 4 of each.
__device__ __forceinline__ uint4 load_matrices(u32 row) {
    uint4 m;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
                 : "r"(row)
                 : "memory");
    return m;
}

/// c += A B for 16x16 A and 16x8 B of bfloat16, with float32 sums.
__device__ __forceinline__ void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// What another block wrote is read through the second-level cache, where all blocks meet.
__device__ __forceinline__ float shared_read(const float* p) { return __ldcg(p); }
__device__ __forceinline__ float2 shared_read(const float2* p) { return __ldcg(p); }
__device__ __forceinline__ uint4 shared_read(const uint4* p) { return __ldcg(p); }

/// Brings `bytes`, a multiple of 16, into the second-level cache.
__device__ __forceinline__ void prefetch_bytes(u64 from, int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes));
#else
    for (int i = 0; i < bytes; i += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"(from + i));
#endif
}
