// Where the time of a token goes: clock readings of one block, for `tools/decode/timeline.py`, which
// defines TIMELINE as that block's number. Otherwise nothing is left of it.

struct Timeline {
#ifdef TIMELINE
    u64* next;
    __device__ explicit Timeline(u32* scratch) : next(reinterpret_cast<u64*>(scratch + SCRATCH - 8192)) {}
    __device__ __forceinline__ void mark() {
        if (blockIdx.x == TIMELINE && threadIdx.x == 0) *next++ = clock64();
    }
#else
    __device__ explicit Timeline(u32*) {}
    __device__ __forceinline__ void mark() {}
#endif
};
