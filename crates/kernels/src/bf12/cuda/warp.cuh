// For kernels in which a warp takes a unit.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ u32 my_unit() { return blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; }
