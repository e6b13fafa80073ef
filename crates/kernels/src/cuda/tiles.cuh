// Tiles of numbers for the matrix units: copies into shared memory that go on while one computes, the
// fragments of a warp, and their product. Behind number.cuh, of BFLOAT16 or FLOAT16.

__device__ __forceinline__ u32 shared_address(const void* p) {
  return (u32)__cvta_generic_to_shared(p);
}

/// Starts to copy 16 bytes of device memory, of which all behind the first `bytes` become zero.
__device__ __forceinline__ void copy16(u32 to, u64 from, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

/// Closes this thread's current group of copies.
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most `PENDING` of this thread's groups of copies are under way.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/// Four 8x8 matrices; lane l gives the address of row l % 8 of matrix l / 8, and receives the elements
/// 2 (l % 4) and the next of row l / 4 of each.
__device__ __forceinline__ uint4 load_matrices(u32 row) {
  uint4 m;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
               : "r"(row)
               : "memory");
  return m;
}

/// The same of their transposes.
__device__ __forceinline__ uint4 load_transposed(u32 row) {
  uint4 m;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m.x), "=r"(m.y), "=r"(m.z), "=r"(m.w)
               : "r"(row)
               : "memory");
  return m;
}

#ifdef FLOAT16
#define NUMBER "f16"
#else
#define NUMBER "bf16"
#endif

/// c += A B for 16x16 A and 16x8 B, with float32 sums.
__device__ __forceinline__ void multiply(float (&c)[4], uint4 a, u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NUMBER "." NUMBER
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

/// Two numbers, `low` the first in memory.
__device__ __forceinline__ u32 to_two(float low, float high) {
  u32 y;
  asm("cvt.rn." NUMBER "x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
