// Fragments of BFLOAT16 or FLOAT16 numbers and their product. Behind number.cuh.

/// As `load_matrices`, of their transposes.
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
