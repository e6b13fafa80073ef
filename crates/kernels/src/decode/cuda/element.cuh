// Bfloat16 by its bits, so that no header is needed: a bfloat16 is the upper half of a float32.

__device__ __forceinline__ float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float bf16(u16 x) { return __uint_as_float((u32)x << 16); }

/// 16 bytes as 8 floats.
__device__ __forceinline__ void unpack8(uint4 v, float (&x)[8]) {
    x[0] = bf16_low(v.x), x[1] = bf16_high(v.x);
    x[2] = bf16_low(v.y), x[3] = bf16_high(v.y);
    x[4] = bf16_low(v.z), x[5] = bf16_high(v.z);
    x[6] = bf16_low(v.w), x[7] = bf16_high(v.w);
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(~0u, x, d);
    return x;
}

/// What another block wrote is read through the second-level cache, where all blocks meet.
__device__ __forceinline__ float shared_read(const float* p) { return __ldcg(p); }
__device__ __forceinline__ float2 shared_read(const float2* p) { return __ldcg(p); }
__device__ __forceinline__ float4 shared_read(const float4* p) { return __ldcg(p); }
__device__ __forceinline__ uint4 shared_read(const uint4* p) { return __ldcg(p); }
