// Which tiles of a product a thread block and a warp have; see `shape.cuh` for the line of tiles.
//
// A block's warps take its tiles in turn, so that at any time they read neighbouring columns of the
// same rows, which the memory serves faster than rows apart. Each then has a sum for every row of
// the block. Where rows are too many for that, in the logits, a warp has a piece of the line instead;
// and in wide packed matrices, where it would have two tiles of a row and then look for the next.

/// A product's line as the loops see it, so that one loop serves all products.
struct Line {
    int deep;      // tiles of a row block
    int row_bytes;
    int first, end;  // of this thread block
    int step;        // from one tile of a warp to the next

    template <int KIND>
    static __device__ __forceinline__ Line of_kind() {
        typedef Product<KIND> P;
        return Line{P::DEEP, P::ROW_BYTES, P::first(blockIdx.x), P::first(blockIdx.x + 1), P::STEP};
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

    /// Warps that have a tile if each has a piece of the line.
    __device__ __forceinline__ int pieces() const { return smaller(end - first, WARPS); }

    /// The first tile of warp `warp`, and how many it has.
    __device__ __forceinline__ int begin(int warp) const {
        if (step != 1) return first + warp;
        return warp >= pieces() ? end : first + (int)((u32)(warp * (end - first)) / (u32)pieces());
    }
    __device__ __forceinline__ int count(int warp) const {
        return step == 1 ? begin(warp + 1) - begin(warp) : larger(end - first - warp + WARPS - 1, 0) / WARPS;
    }
};
