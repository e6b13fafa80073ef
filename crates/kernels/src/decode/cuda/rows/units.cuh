// How a product of many tokens is dealt to the thread blocks.
//
// Each row block's sum is made of chains (`shape.cuh`), in the order that `gather` has. Here a warp goes through
// a row block's chains tile by tile, and all warps of a thread block take the same columns at a time, each of
// another row block, so that what the tokens have there is read once for eight row blocks. A unit is what a
// thread block takes at a time: up to eight row blocks, and all their chains, or, of rows that thread
// blocks share, a pair of them. With four row blocks or fewer two warps have one: the chains of even numbers and
// the odd ones. The last units of a product have fewer row blocks, so that all thread blocks end at a time.
//
// A warp adds up some chains at a time, as many as it has registers for, whose tiles it takes in turn: so it reads
// neighbouring columns. A chain's tiles one after the other, eight tiles apart, took a third longer to come.

struct Deal {
    int large_units, units;  // those of WARPS row blocks, and all
    int large, small;        // groups of WARPS row blocks, and row blocks of the groups behind them
    int pairs, classes;      // units of the same row blocks; see `Unit`
    int chains, deep, run, step, blocks, rows;
    int at_once;  // chains that a warp adds up at a time
    int grid;     // thread blocks of the order of `shape.cuh`
    bool is_shared;
};

template <int KIND>
struct Dealing {
    typedef Product<KIND> P;
    static constexpr int CLASSES = P::STEP == 1 || P::DEEP % 8 == 0 ? 1 : P::DEEP % 4 == 0 ? 2 : P::DEEP % 2 == 0 ? 4 : 8;
    static constexpr int OF_CLASS = ceil_div(P::BLOCKS, CLASSES);
    static constexpr int OF_GROUP = CLASSES * P::SUMS;

    static constexpr int AT_ONCE = P::SPLIT                        ? 2
                                   : P::STEP == 1 || TOKENS > 64 ? 1
                                   : TOKENS > 32                 ? 2
                                                                 : 4;

    static constexpr int large_units(int large) { return large * OF_GROUP; }
    static constexpr int units(int large, int small) {
        return large_units(large) + ceil_div(larger(OF_CLASS - large * WARPS, 0), small) * OF_GROUP;
    }
    /// Row blocks of the thread block that has most.
    static constexpr int load(int large, int small) {
        int most = 0;
        for (int i = 0; i < 2; i++) {
            int cta = i == 0 ? 0 : large_units(large) % GRID;
            int first = ceil_div(larger(large_units(large) - cta, 0), GRID);
            int all = ceil_div(larger(units(large, small) - cta, 0), GRID);
            most = larger(most, first * WARPS + (all - first) * small);
        }
        return most;
    }
    static constexpr Deal make() {
        int best_large = ceil_div(OF_CLASS, WARPS), best_small = WARPS;
        int best = load(best_large, best_small);
        const int rounds = OF_CLASS / WARPS * OF_GROUP / GRID;
        for (int i = 0; i < 2; i++)
            for (int small = WARPS; small >= 1; small--) {
                int large = i == 0 ? rounds * GRID / OF_GROUP : 0;
                if (load(large, small) < best) best = load(large, small), best_large = large, best_small = small;
            }
        return Deal{large_units(best_large), units(best_large, best_small), best_large, best_small, P::SUMS, CLASSES,
                    P::CHAINS, P::DEEP, P::RUN, P::STEP, P::BLOCKS, P::ROWS, AT_ONCE, P::BLOCKS_OF_GRID,
                    P::SPLIT};
    }
    static constexpr Deal DEAL = make();
    static constexpr bool HAS_HALVES = P::CHAINS > 1 && (DEAL.units > DEAL.large_units && 2 * DEAL.small <= WARPS);
};

__constant__ const Deal DEALS[5] = {Dealing<QKV>::DEAL, Dealing<OUT>::DEAL, Dealing<GATE_UP>::DEAL, Dealing<DOWN>::DEAL,
                                    Dealing<LOGITS>::DEAL};

constexpr int HALVES = Dealing<QKV>::HAS_HALVES || Dealing<OUT>::HAS_HALVES || Dealing<GATE_UP>::HAS_HALVES ||
                               Dealing<DOWN>::HAS_HALVES
                           ? 2
                           : 1;

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

/// Row blocks of one class are `classes` apart: of all of them the tiles of a chain are in the same columns.
struct Unit {
    int rows, halves, first, which, pair;
    int evens, at_once, turns;  // chains of even numbers; of a warp's chains how many at a time, and how often
    bool turned;                // of a pair the second one begins before the first

    __device__ __forceinline__ void set(const Deal& d, int number) {
        const bool is_large = number < d.large_units;
        int v = is_large ? number : number - d.large_units;
        rows = is_large ? WARPS : d.small;
        pair = v % d.pairs, v /= d.pairs;
        which = v % d.classes, v /= d.classes;
        first = is_large ? v * WARPS : d.large * WARPS + v * d.small;
        halves = d.chains > 1 && 2 * rows <= WARPS ? 2 : 1;
        evens = d.is_shared ? 1 : (d.chains + 1) / 2;
        at_once = d.is_shared && halves == 2 ? 1 : d.at_once;
        turns = d.is_shared || d.chains == 1 ? 1 : (halves == 2 ? evens : 2 * evens) / at_once;
        turned = d.is_shared && halves == 1 && d.step != 1 && start(d, 2 * pair) > start(d, 2 * pair + 1);
    }
    __device__ __forceinline__ int block(const Deal& d, int slot) const { return (first + slot) * d.classes + which; }
    /// The `i`th chain of a turn.
    __device__ __forceinline__ int chain(const Deal& d, int turn, int i, int half) const {
        i += turn * at_once;
        if (d.is_shared) return 2 * pair + (halves == 2 ? half : i ^ turned);
        return 2 * (i % evens) + (halves == 2 ? half : i / evens);
    }
    /// The first tile of a chain, and how many it has.
    __device__ __forceinline__ int start(const Deal& d, int chain) const {
        return d.step == 1 ? chain * d.run : (chain - which * d.deep) & (WARPS - 1);
    }
    __device__ __forceinline__ int count(const Deal& d, int chain) const {
        if (chain >= d.chains) return 0;
        const int left = d.deep - start(d, chain);
        return d.step == 1 ? smaller(left, d.run) : larger(left + WARPS - 1, 0) / WARPS;
    }
    /// Stages of the `i`th chains of a turn.
    __device__ __forceinline__ int stages(const Deal& d, int turn, int i) const {
        if (i >= at_once) return 0;
        const int one = count(d, chain(d, turn, i, 0));
        return halves == 1 ? one : larger(one, count(d, chain(d, turn, i, 1)));
    }
    __device__ __forceinline__ int stages(const Deal& d) const {
        int all = 0;
        for (int turn = 0; turn < turns; turn++)
            for (int i = 0; i < at_once; i++) all += stages(d, turn, i);
        return all;
    }
};

/// A stage: the tiles of one or two chains, in which row blocks. What is known of it before the first layer is written
/// down once, since it takes long to find.
struct Stage {
    u32 tiles, what;

    static constexpr u32 NO_TILE = 0xffff;

    __device__ __forceinline__ int tile(int half) const { return tiles >> 16 * half & NO_TILE; }
    /// The first row block; the others are the deal's classes apart.
    __device__ __forceinline__ int block() const { return what & 0xfffff; }
    __device__ __forceinline__ int rows() const { return what >> 20 & 15; }
    __device__ __forceinline__ int halves() const { return 1 + (what >> 24 & 1); }
    /// Whether it is the first one of its unit.
    __device__ __forceinline__ bool is_first() const { return (what >> 25 & 1) != 0; }
};

/// How many stages there may be in a thread block's part of a product, and where they are in the list of all.
template <int KIND>
struct Listing {
    static constexpr Deal D = Dealing<KIND>::DEAL;
    static constexpr int CHAIN = D.step == 1 ? D.run : ceil_div(D.deep, WARPS);
    static constexpr int of_unit(int rows) {
        const int evens = D.is_shared ? 1 : (D.chains + 1) / 2;
        return CHAIN * ((D.chains > 1 && 2 * rows <= WARPS) || D.chains == 1 ? evens : 2 * evens);
    }
    static constexpr int COUNT = ceil_div(D.large_units, GRID) * of_unit(WARPS) +
                                 (ceil_div(D.units, GRID) - D.large_units / GRID) * of_unit(D.small);
};
constexpr int LISTED_UP_TO[6] = {0,
                                 Listing<QKV>::COUNT,
                                 Listing<QKV>::COUNT + Listing<OUT>::COUNT,
                                 Listing<QKV>::COUNT + Listing<OUT>::COUNT + Listing<GATE_UP>::COUNT,
                                 Listing<QKV>::COUNT + Listing<OUT>::COUNT + Listing<GATE_UP>::COUNT + Listing<DOWN>::COUNT,
                                 Listing<QKV>::COUNT + Listing<OUT>::COUNT + Listing<GATE_UP>::COUNT +
                                     Listing<DOWN>::COUNT + Listing<LOGITS>::COUNT};
__constant__ const int LISTED[5] = {LISTED_UP_TO[0], LISTED_UP_TO[1], LISTED_UP_TO[2], LISTED_UP_TO[3], LISTED_UP_TO[4]};
constexpr int LIST_BYTES = 8 * LISTED_UP_TO[5] + 5 * 4;

/// Lists this thread block's stages of a product, a thread a unit; `end` gets where they end.
__device__ __forceinline__ void list_stages(int kind, Stage* list, int* end) {
    const Deal& d = DEALS[kind];
    const int units = larger((d.units - (int)blockIdx.x + GRID - 1) / GRID, 0);
    if (threadIdx.x == 0) end[kind] = LISTED[kind];
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < units; i += THREADS) {
        Unit unit;
        int at = LISTED[kind];
#pragma unroll 1
        for (int before = 0; before < i; before++) {
            unit.set(d, blockIdx.x + before * GRID);
            at += unit.stages(d);
        }
        unit.set(d, blockIdx.x + i * GRID);
        u32 what = unit.block(d, 0) | unit.rows << 20 | (unit.halves - 1) << 24 | 1u << 25;
        auto put = [&](int turn, int j, int k) {
            u32 tiles = 0;
            for (int half = 0; half < 2; half++) {
                const int chain = unit.chain(d, turn, j, half);
                const bool is_there = half < unit.halves && k < unit.count(d, chain);
                tiles |= (is_there ? unit.start(d, chain) + k * d.step : Stage::NO_TILE) << 16 * half;
            }
            list[at++] = Stage{tiles, what};
            what &= ~(1u << 25);
        };
#pragma unroll 1
        for (int turn = 0; turn < unit.turns; turn++) {
            // As `multiply_rows` takes them.
            if (d.step == 1) {
                for (int j = 0; j < unit.at_once; j++)
                    for (int k = 0; k < unit.stages(d, turn, j); k++) put(turn, j, k);
            } else {
                int most = 0;
                for (int j = 0; j < unit.at_once; j++) most = larger(most, unit.stages(d, turn, j));
                for (int k = 0; k < most; k++)
                    for (int j = 0; j < unit.at_once; j++)
                        if (k < unit.stages(d, turn, j)) put(turn, j, k);
            }
        }
        if (i == units - 1) end[kind] = at;
    }
    __syncthreads();
}
