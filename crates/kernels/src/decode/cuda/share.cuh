// Which tiles of a product a thread block and a warp have; see `shape.cuh` for the line of tiles.

/// A product's line as the loops see it, so that one loop serves all products.
struct Line {
    int deep;      // tiles of a row block
    int row_bytes;
    int first, end;  // of this thread block

    template <int KIND>
    static __device__ __forceinline__ Line of_kind() {
        typedef Product<KIND> P;
        return Line{P::DEEP, P::ROW_BYTES, P::first(blockIdx.x), P::first(blockIdx.x + 1)};
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

    /// Warps of the thread block that have a tile.
    __device__ __forceinline__ int warps() const { return smaller(end - first, WARPS); }

    /// The first tile of warp `warp`; the next warp's is this one's end.
    __device__ __forceinline__ int begin(int warp) const {
        int busy = warps();
        return warp >= busy ? end : first + (int)((u32)(warp * (end - first)) / (u32)busy);
    }

    /// The warp that has the thread block's `tile`th tile.
    __device__ __forceinline__ int owner(int tile) const {
        return (int)(((u32)(tile + 1) * (u32)warps() - 1) / (u32)(end - first));
    }
};
