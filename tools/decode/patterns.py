"""How fast the memory is read by how tiles are dealt to warps and fetched: the kernel's stream of weights
without products and barriers. Needs a GPU and CuPy.

    python tools/decode/patterns.py

For each pattern: TB/s, and when the first block, a sixth, half and all of them are done.
"""

ROUNDS = 5
# Row blocks of 16 rows of 8 KB for each thread block: 3.1 GB on 132 multiprocessors.
EACH = 180

SOURCE = r"""
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int DEEP = ROW_BYTES * 16 / 2048, COLUMNS = 2048 / ROWS, PARTS = 16 / ROWS;
constexpr u32 UNCLAIMED = 0xffffffffu, CLAIMING = 0xfffffffeu;

__device__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ u64 nanoseconds() {
    u64 t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

extern "C" __global__ void __launch_bounds__(256, 1) stream(const char* weights, int each, u32* counter, u32* out, u64* times) {
    extern __shared__ __align__(1024) unsigned char shared[];
    __shared__ u32 claims[1024];
    __shared__ __align__(8) u64 arrivals[8 * STAGES];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int i = threadIdx.x; i < 1024; i += 256) claims[i] = UNCLAIMED;
    if (threadIdx.x < 8 * STAGES)
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared_address(arrivals + threadIdx.x)));
    __syncthreads();
    if (threadIdx.x == 0) times[2 * blockIdx.x] = nanoseconds();
    const u32 ring = shared_address(shared) + warp * STAGES * 2048;
    const int total = each * DEEP / 8;
    int fetched = 0, block = -1, deep = 0;
    bool over = false;
    u64 at = 0;

    // Where the thread block's `b`th row block is. Whichever warp wants a claimed one first claims it.
    auto row_block = [&](int b) -> u64 {
#if CLAIMED
        u32 claim = 0;
        if (lane == 0) {
            volatile u32* place = claims + b;
            if (*place == UNCLAIMED && atomicCAS(claims + b, UNCLAIMED, CLAIMING) == UNCLAIMED)
                *place = atomicAdd(counter, 1);
            while ((claim = *place) >= CLAIMING) {
            }
        }
        claim = __shfl_sync(~0u, claim, 0);
        if (claim >= (u32)each * gridDim.x) over = true;
        return claim;
#elif SPREAD
        return b * gridDim.x + blockIdx.x;
#else
        return blockIdx.x * each + b;
#endif
    };
    auto fetch = [&](int stage) {
        if (!over && (CLAIMED || fetched < total)) {
            // DEAL 0: each warp has a piece of the line of tiles; 1: they take tiles in turn; 2: each has
            // its columns of every row block.
            int tile = DEAL == 0 ? warp * total + fetched : warp + 8 * fetched;
            int next = DEAL == 2 ? fetched / (DEEP / 8) : tile / DEEP;
            deep = DEAL == 2 ? warp * (DEEP / 8) + fetched % (DEEP / 8) : tile % DEEP;
            if (next != block) block = next, at = (u64)weights + row_block(next) * (16 * ROW_BYTES);
        }
        if (!over && (CLAIMED || fetched < total)) {
            u64 from = at + (u64)(deep % PARTS * ROWS) * ROW_BYTES + deep / PARTS * COLUMNS;
            u32 to = ring + stage * 2048;
#if BULK
            u32 arrival = shared_address(arrivals + warp * STAGES + stage);
            if (lane == 0)
                asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 2048;" ::"r"(arrival) : "memory");
            __syncwarp();
            if (lane < ROWS)
                asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                                 to + lane * COLUMNS), "l"(from + (u64)lane * ROW_BYTES), "r"(COLUMNS), "r"(arrival)
                             : "memory");
#else
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int piece = lane + 32 * i, row = piece / (COLUMNS / 16), column = piece % (COLUMNS / 16);
                asm volatile("cp.async.cg.shared.global" HINT " [%0], [%1], 16;" ::"r"(to + piece * 16),
                             "l"(from + (u64)row * ROW_BYTES + column * 16)
                             : "memory");
            }
#endif
            fetched++;
        }
#if !BULK
        asm volatile("cp.async.commit_group;" ::: "memory");
#endif
    };
    for (int stage = 0; stage < STAGES; stage++) fetch(stage);
    u32 x = 0;
    for (int done = 0, take = 0, turn = 0; done < fetched; done++) {
#if BULK
        u32 arrival = shared_address(arrivals + warp * STAGES + take), there = 0;
        while (!there)
            asm volatile(
                "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                : "=r"(there) : "r"(arrival), "r"(turn) : "memory");
#else
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
        __syncwarp();
#endif
        const uint4* tile = reinterpret_cast<const uint4*>(shared + (warp * STAGES + take) * 2048) + lane;
#pragma unroll
        for (int i = 0; i < 4; i++) x ^= tile[32 * i].x ^ tile[32 * i].y ^ tile[32 * i].z ^ tile[32 * i].w;
        __syncwarp();
        fetch(take);
        if (++take == STAGES) take = 0, turn ^= 1;
    }
    if (x == 0x12345) *out = x;
    __syncthreads();
    if (threadIdx.x == 0) times[2 * blockIdx.x + 1] = nanoseconds();
}
"""

DEFAULTS = dict(ROW_BYTES=8192, ROWS=16, DEAL=0, SPREAD=0, CLAIMED=0, BULK=0, STAGES=11, HINT='".L2::128B"')
PATTERNS = {
    "a piece of the line": {},
    "8 stages": dict(STAGES=8),
    "5 stages": dict(STAGES=5),
    "3 stages": dict(STAGES=3),
    "256 bytes into L2": dict(HINT='".L2::256B"'),
    "in turn": dict(DEAL=1),
    "in turn, 5 stages": dict(DEAL=1, STAGES=5),
    "columns": dict(DEAL=2),
    "in turn, blocks spread": dict(DEAL=1, SPREAD=1),
    "in turn, claimed": dict(DEAL=1, CLAIMED=1),
    "in turn, claimed, 5 stages": dict(DEAL=1, CLAIMED=1, STAGES=5),
    "4 rows": dict(ROWS=4),
    "4 rows in turn": dict(ROWS=4, DEAL=1),
    "bulk copies": dict(BULK=1),
    "bulk, 4 rows in turn": dict(BULK=1, ROWS=4, DEAL=1),
    "long rows in turn": dict(ROW_BYTES=24576, DEAL=1),
}


def text(pattern):
    return "".join(f"#define {k} {v}\n" for k, v in (DEFAULTS | pattern).items()) + SOURCE


def main():
    import cupy
    import numpy as np

    grid = cupy.cuda.runtime.getDeviceProperties(0)["multiProcessorCount"]
    weights = cupy.random.randint(0, 2**31, grid * EACH * 131072 // 4, dtype=cupy.int32)
    counter, out = cupy.zeros(1, cupy.uint32), cupy.zeros(1, cupy.uint32)
    times = cupy.zeros(2 * grid, cupy.uint64)
    kernels, results = {}, {name: [] for name in PATTERNS}
    for name, pattern in PATTERNS.items():
        kernels[name] = cupy.RawModule(code=text(pattern), options=("-std=c++17",)).get_function("stream")
        kernels[name].max_dynamic_shared_size_bytes = 8 * 2048 * (DEFAULTS | pattern)["STAGES"]
    for turn in range(ROUNDS):
        for name, pattern in PATTERNS.items():
            sizes = DEFAULTS | pattern
            each = EACH * 8192 // sizes["ROW_BYTES"]
            counter[:] = 0
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            kernels[name]((grid,), (256,), (weights, np.int32(each), counter, out, times),
                          shared_mem=8 * 2048 * sizes["STAGES"])
            end.record()
            end.synchronize()
            rate = grid * each * 16 * sizes["ROW_BYTES"] / cupy.cuda.get_elapsed_time(start, end) / 1e9
            t = times.get().reshape(-1, 2).astype(np.int64)
            done = np.percentile((t[:, 1] - t[:, 0].min()) / 1e3, [0, 16, 50, 100])
            if turn > 0:
                results[name].append((rate, done.round().astype(int).tolist()))
    for name, all_of in results.items():
        rate, done = sorted(all_of)[len(all_of) // 2]
        print(f"{name:28} {rate:.3f} TB/s  {done} us")


if __name__ == "__main__":
    main()
