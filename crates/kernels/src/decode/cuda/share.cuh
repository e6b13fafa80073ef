// Which tiles of a product a thread block and a warp have; see `shape.cuh` for the line of tiles.
//
// A block's warps take its tiles in turn, so that at any time they read neighbouring columns of the
// same rows, which the memory serves faster than rows apart. Each then has a sum for every row of
// the block. Where rows are too many for that, in the logits, a warp has a piece of the line instead, in whole
// row blocks; and in wide packed matrices, where it would have two tiles of a row and then look for the next, in
// runs of some tiles. A chain is what is added up tile by tile: a run, or every WARPSth tile of a thread block's.

/// A product's line as the loops see it, so that one loop serves all products.
struct Line {
    int deep;      // tiles of a row block
    int row_bytes;
    int first, end;  // of this thread block
    int step;        // from one tile of a warp to the next
    int width;       // tiles of a row block whose input is there at a time
    int columns;     // of the weights
    int run, runs;   // tiles of a run, and runs of a row block

    int begin, count;  // the first tile of this warp, and how many it has

    template <int KIND>
    static __device__ __forceinline__ Line of_kind() {
        typedef Product<KIND> P;
        const int first = P::first(blockIdx.x), end = P::first(blockIdx.x + 1), warp = threadIdx.x / 32;
        int begin = first + ((warp - first) & (WARPS - 1)), count = larger(end - begin + WARPS - 1, 0) / WARPS;
        if (P::STEP == 1) {
            // Whole runs, but for what other thread blocks have of the first and the last.
            const u32 from = run_of<KIND>(first), runs = first == end ? 0 : run_of<KIND>(end - 1) + 1 - from;
            begin = larger(first, first_of<KIND>(from + warp * runs / WARPS));
            count = smaller(end, first_of<KIND>(from + (warp + 1) * runs / WARPS)) - begin;
            count = larger(count, 0);
        }
        return Line{P::DEEP, P::ROW_BYTES, first, end, P::STEP, P::WIDTH, P::K, P::RUN, P::RUNS, begin, count};
    }
    /// The run that has this tile, counted along the line, and the first tile of a run.
    template <int KIND>
    static __device__ __forceinline__ u32 run_of(int tile) {
        typedef Product<KIND> P;
        return (u32)tile / P::DEEP * P::RUNS + (u32)tile % P::DEEP / P::RUN;
    }
    template <int KIND>
    static __device__ __forceinline__ int first_of(u32 run) {
        typedef Product<KIND> P;
        return run / P::RUNS * P::DEEP + run % P::RUNS * P::RUN;
    }

    static __device__ __forceinline__ Line of(int kind) {
        switch (kind) {
            case QKV: return of_kind<QKV>();
            case OUT: return of_kind<OUT>();
            case GATE_UP: return of_kind<GATE_UP>();
            case DOWN: return of_kind<DOWN>();
            default: return of_kind<LOGITS>();
        }
    }

    static __device__ __forceinline__ int slices(int kind) {
        return kind == OUT ? Product<OUT>::SLICES : kind == DOWN ? Product<DOWN>::SLICES : Product<QKV>::SLICES;
    }
};

/// Where several tokens have inputs that are too wide to be there at once, a warp takes the same tiles, and
/// adds up each row of them in the same order, but slice by slice: in each, all its row blocks.
constexpr bool SLICED =
    larger(larger(Product<QKV>::SLICES, Product<OUT>::SLICES),
           larger(larger(Product<GATE_UP>::SLICES, Product<DOWN>::SLICES), Product<LOGITS>::SLICES)) > 1;

/// Of a warp's tiles, `left` that are not behind it, the next of them `deep` tiles into the row block `block`,
/// to the first that is in the slice. True if that is another one.
__device__ __forceinline__ bool seek(int slice, int width, int step, int depth, int& block, int& deep, int& left) {
    const int low = slice * width, high = low + width;
    bool moved = false;
#pragma unroll 1
    while (left > 0 && (deep < low || deep >= high)) {
        const int tiles = (deep < low ? low : depth) - deep;
        const int hops = step == 1 ? tiles : (tiles + WARPS - 1) / WARPS;
        left = larger(left - hops, 0);
        deep += hops * step;
        for (; deep >= depth; deep -= depth) block++;
        moved = true;
    }
    return moved;
}
