// Where all blocks of the launch meet.
//
// The grid is one block a multiprocessor, so all blocks run at once and may wait for each other. A
// counter in device memory counts arrivals; it only grows during a launch, and the last block to
// leave sets it back to zero for the next one. One thread of a block arrives and waits for all of
// them: the release is cumulative over the writes that `__syncthreads` ordered before it, and the
// acquire covers the reads behind the second `__syncthreads`.

struct Barrier {
    u32* arrived;
    u32* left;
    u32* made;
    u32 goal, goal_of_makers;

    __device__ Barrier(u32* scratch)
        : arrived(scratch), left(scratch + 32), made(scratch + 48), goal(0), goal_of_makers(0) {}

    __device__ __forceinline__ void wait() {
        goal += GRID;
        __syncthreads();
        if (threadIdx.x == 0) {
            add_release(arrived);
            while (read_acquire(arrived) < goal) {
            }
        }
        __syncthreads();
    }

    /// The halves of `wait`, for work between them that needs nothing of other blocks.
    __device__ __forceinline__ void arrive() {
        goal += GRID;
        __syncthreads();
        if (threadIdx.x == 0) add_release(arrived);
    }
    __device__ __forceinline__ void wait_for_all() {
        if (threadIdx.x == 0)
            while (read_acquire(arrived) < goal) {
            }
        __syncthreads();
    }

    /// Waits for the `makers` blocks of which this may be one, where the others have made nothing since the last
    /// `wait`.
    __device__ __forceinline__ void wait_for(u32 makers, bool is_maker) {
        goal_of_makers += makers;
        __syncthreads();
        if (threadIdx.x == 0) {
            if (is_maker) add_release(made);
            while (read_acquire(made) < goal_of_makers) {
            }
        }
        __syncthreads();
    }

    /// To be called once, behind the last `wait`.
    __device__ __forceinline__ void leave() {
        if (threadIdx.x != 0) return;
        if (atomicAdd(left, 1) == GRID - 1) {
            *arrived = 0;
            *left = 0;
            *made = 0;
        }
    }
};

/// True for the last of `count` to arrive at `counter`, which is zero again afterwards.
__device__ __forceinline__ bool counted_last(u32* counter, u32 count) {
    u32 before = add_acquire_release(counter);
    if (before == count - 1) *counter = 0;
    return before == count - 1;
}

/// True for the whole block if it is the last of `count` to arrive at `counter`; what the others
/// wrote before they arrived can then be read.
__device__ __forceinline__ bool last_of(u32* counter, u32 count, u32* flag) {
    __syncthreads();
    if (threadIdx.x == 0) *flag = counted_last(counter, count);
    __syncthreads();
    return *flag != 0;
}
