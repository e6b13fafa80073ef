// How a product of many tokens is dealt to the thread blocks.
//
// Each row block's sum is made of chains (`shape.cuh`), in the order that `gather` has. A thread block has a class of
// chains, those of the same columns, of some row blocks: so all that the tokens have in those columns fits into shared
// memory, and the warps, each with a row block, need not wait for each other before the product is done. Of rows that
// thread blocks may share a class is one chain, of gate and up all of even numbers or all odd ones, of logits the only
// one. The sums of the classes lie in scratch memory, and whoever wants them adds them up.

struct Deal {
    int deep, step, run, chains, blocks, rows, grid, eights, row_bytes;
    int classes, of_class;  // and chains of a class
    int longest;            // tiles of a chain, at the most
};

template <int KIND>
struct Dealing {
    typedef Product<KIND> P;
    static constexpr int CLASSES = P::SPLIT ? P::CHAINS : smaller(P::CHAINS, 2);
    static constexpr int OF_CLASS = ceil_div(P::CHAINS, CLASSES);
    static constexpr int LONGEST = P::STEP == 1 ? P::RUN : ceil_div(P::DEEP, WARPS);
    static constexpr int TILES = OF_CLASS * LONGEST;
    static constexpr Deal DEAL = {P::DEEP, P::STEP, P::RUN,       P::CHAINS, P::BLOCKS, P::ROWS, P::BLOCKS_OF_GRID,
                                  P::K / 8, P::ROW_BYTES, CLASSES,   OF_CLASS, LONGEST};
};
__constant__ const Deal DEALS[5] = {Dealing<QKV>::DEAL, Dealing<OUT>::DEAL, Dealing<GATE_UP>::DEAL, Dealing<DOWN>::DEAL,
                                    Dealing<LOGITS>::DEAL};

/// What a thread block has of a product: a class, and row blocks. With fewer thread blocks than classes it has several
/// classes, one after the other.
struct Share {
    int which, first, end;

    __device__ __forceinline__ void begin(const Deal& d) {
        which = (int)((u32)blockIdx.x % (u32)d.classes);
        find(d);
    }
    __device__ __forceinline__ bool is_there(const Deal& d) const { return which < d.classes; }
    __device__ __forceinline__ void next(const Deal& d) {
        which += GRID;
        find(d);
    }
    __device__ __forceinline__ void find(const Deal& d) {
        // Of several chains a class has as many thread blocks as the other, each with the same row blocks as one of that.
        const int spare = d.of_class == 1 ? d.classes - 1 - which : 0;
        const int of_class = larger(1, (GRID + spare) / d.classes), mine = (u32)blockIdx.x / (u32)d.classes;
        first = smaller(mine, of_class) * d.blocks / of_class, end = smaller(mine + 1, of_class) * d.blocks / of_class;
    }
};

/// A chain of a row block.
struct Chain {
    int number, start, count;  // the first tile, and how many
    int slot;                  // where the inputs of the first tile are among those of the class

    /// The `i`th chain of a class.
    __device__ __forceinline__ Chain(const Deal& d, int which, int block, int i) {
        // Every WARPSth tile of the line is one chain's; columns that are so far apart have another in another row block.
        const int shift = d.step == 1 ? 0 : block * d.deep & (WARPS - 1);
        const bool is_alone = d.of_class == 1;
        number = is_alone ? (which + shift) & (d.step == 1 ? ~0 : WARPS - 1) : d.classes * i + ((which + shift) & 1);
        const int columns = d.step == 1 ? number : (number - shift) & (WARPS - 1);
        start = columns * d.run;
        const int left = d.deep - start;
        count = number >= d.chains ? 0 : d.step == 1 ? smaller(left, d.run) : larger(left + WARPS - 1, 0) / WARPS;
        slot = is_alone ? 0 : columns / d.classes * d.longest;
    }
};

/// Where a row block is cut into parts: those of the thread blocks that have it in the kernel of one token.
struct Cuts {
    int owner, parts;

    __device__ __forceinline__ Cuts(const Deal& d, int block) {
        owner = owner_of(d, block * d.deep);
        parts = owner_of(d, (block + 1) * d.deep - 1) - owner + 1;
    }
    static __device__ __forceinline__ int owner_of(const Deal& d, int tile) {
        return (int)(((u32)(tile + 1) * (u32)d.grid - 1) / (u32)(d.blocks * d.deep));
    }
    /// Tiles of the row block up to the end of this part.
    __device__ __forceinline__ int end(const Deal& d, int block, int part) const {
        if (part + 1 >= parts) return d.deep;
        return (int)((u32)(owner + part + 1) * (u32)(d.blocks * d.deep) / (u32)d.grid) - block * d.deep;
    }
};
