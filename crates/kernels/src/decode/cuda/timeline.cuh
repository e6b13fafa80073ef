// Where the time of a token goes: clock readings of every block, for `tools/decode/timeline.py`, which
// defines TIMELINE. Otherwise nothing is left of it.

struct Timeline {
#ifdef TIMELINE
    // A block's readings in turn, and at the end the multiprocessor that it is on.
    static constexpr int PLACES = 1 + LAYERS * 21 + 3;
    static_assert(SCRATCH_END + GRID * PLACES * 2 < SCRATCH, "no room for the timeline");
    u64* next;
    __device__ explicit Timeline(u32* scratch)
        : next(reinterpret_cast<u64*>(scratch + SCRATCH) - (blockIdx.x + 1) * PLACES) {
        u32 multiprocessor;
        asm volatile("mov.u32 %0, %%smid;" : "=r"(multiprocessor));
        if (threadIdx.x == 0) next[PLACES - 1] = multiprocessor;
    }
    __device__ __forceinline__ void mark() {
        if (threadIdx.x == 0) *next++ = clock64();
    }
#else
    __device__ explicit Timeline(u32*) {}
    __device__ __forceinline__ void mark() {}
#endif
};
