// Where the time of a token goes: clock readings of every block, for `tools/decode/timeline.py`, which
// defines TIMELINE. Otherwise nothing is left of it.

struct Timeline {
#if defined(TIMELINE) && TOKENS == 1
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

/// What a block of several tokens' kernel does with its time: cycles of each kind of work, added up.
enum Work { NORMALIZE, WAIT, COPY, MULTIPLY, GATHER, ATTEND, WORKS };

struct Account {
#ifdef TIMELINE
    u64 since, spent[WORKS];
    __device__ __forceinline__ Account() : since(clock64()), spent{} {}
    __device__ __forceinline__ void charge(Work work) {
        u64 now = clock64();
        spent[work] += now - since;
        since = now;
    }
    __device__ __forceinline__ void write(u32* scratch) {
        u64* to = reinterpret_cast<u64*>(scratch + SCRATCH) - (blockIdx.x + 1) * WORKS;
        if (threadIdx.x == 0)
            for (int i = 0; i < WORKS; i++) to[i] = spent[i];
    }
#else
    __device__ __forceinline__ void charge(Work) {}
    __device__ __forceinline__ void write(u32*) {}
#endif
};
