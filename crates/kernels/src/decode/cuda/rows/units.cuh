// How a product of many tokens is dealt to the thread blocks.
//
// Each row block's sum is made of chains (`shape.cuh`), in the order that `gather` has. Here a warp goes through
// a row block's chains tile by tile, and all warps of a thread block take the same columns at a time, each of
// another row block, so that what the tokens have there is read once for eight row blocks. A unit is what a
// thread block takes at a time: up to eight row blocks, and all their chains, or, of rows that thread
// blocks share, a pair of them. With four row blocks or fewer two warps have one: the chains of even numbers and
// the odd ones. The last units of a product have fewer row blocks, so that all thread blocks end at a time.

struct Deal {
    int large_units, units;  // those of WARPS row blocks, and all
    int large, small;        // groups of WARPS row blocks, and row blocks of the groups behind them
    int pairs, classes;      // units of the same row blocks; see `Unit`
    int chains, deep, run, step, blocks, rows;
    int grid, shares, runs;  // of the order of `shape.cuh`
    bool is_shared;
};

template <int KIND>
struct Dealing {
    typedef Product<KIND> P;
    static constexpr int CLASSES = P::STEP == 1 || P::DEEP % 8 == 0 ? 1 : P::DEEP % 4 == 0 ? 2 : P::DEEP % 2 == 0 ? 4 : 8;
    static constexpr int OF_CLASS = ceil_div(P::BLOCKS, CLASSES);
    static constexpr int OF_GROUP = CLASSES * P::SUMS;

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
                    P::CHAINS, P::DEEP, P::RUN, P::STEP, P::BLOCKS, P::ROWS, P::BLOCKS_OF_GRID, P::SHARES, P::RUNS,
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
        const int share = d.step != 1 ? tile : tile / d.deep * d.runs + tile % d.deep / d.run;
        return (int)(((u32)(share + 1) * (u32)d.grid - 1) / (u32)d.shares);
    }
    /// Tiles of the row block up to the end of this part.
    __device__ __forceinline__ int end(const Deal& d, int block, int part) const {
        if (part + 1 >= parts) return d.deep;
        const int share = (int)((u32)(owner + part + 1) * (u32)d.shares / (u32)d.grid);
        return (d.step != 1 ? share : share / d.runs * d.deep + share % d.runs * d.run) - block * d.deep;
    }
};

/// Row blocks of one class are `classes` apart: of all of them the tiles of a chain are in the same columns.
struct Unit {
    int rows, halves, first, which, pair;
    int evens, turns;  // chains of even numbers, and what a warp goes through

    __device__ __forceinline__ void set(const Deal& d, int number) {
        const bool is_large = number < d.large_units;
        int v = is_large ? number : number - d.large_units;
        rows = is_large ? WARPS : d.small;
        pair = v % d.pairs, v /= d.pairs;
        which = v % d.classes, v /= d.classes;
        first = is_large ? v * WARPS : d.large * WARPS + v * d.small;
        halves = d.chains > 1 && 2 * rows <= WARPS ? 2 : 1;
        evens = d.is_shared ? 1 : (d.chains + 1) / 2;
        turns = halves == 2 || d.chains == 1 ? evens : 2 * evens;
    }
    __device__ __forceinline__ int block(const Deal& d, int slot) const { return (first + slot) * d.classes + which; }
    __device__ __forceinline__ int chain(int turn, int half) const {
        return 2 * (pair + turn % evens) + (halves == 2 ? half : turn / evens);
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
    /// Tiles of the longest chain of a turn.
    __device__ __forceinline__ int stages(const Deal& d, int turn) const {
        const int one = count(d, chain(turn, 0));
        return halves == 1 ? one : larger(one, count(d, chain(turn, 1)));
    }
};

/// A place in a thread block's line of stages of a product: of a turn of a unit, the `k`th tiles.
struct Walk {
    int kind, number, turn, k, stages;
    Unit unit;

    __device__ __forceinline__ const Deal& deal() const { return DEALS[kind]; }
    __device__ __forceinline__ bool is_over() const { return number >= deal().units; }

    __device__ __forceinline__ void begin(int kind_) {
        kind = kind_, number = blockIdx.x, turn = -1, k = 0, stages = 0;
        if (is_over()) return;
        unit.set(deal(), number);
        settle();
    }
    __device__ __forceinline__ void next() {
        if (++k >= stages) settle();
    }
    /// To the next turn that has a tile.
    __device__ __forceinline__ void settle() {
#pragma unroll 1
        do {
            if (++turn >= unit.turns) {
                number += GRID, turn = 0;
                if (is_over()) return;
                unit.set(deal(), number);
            }
            k = 0, stages = unit.stages(deal(), turn);
        } while (stages == 0);
    }
    /// Of the chain of a half: its tile in this stage, or -1.
    __device__ __forceinline__ int tile(int half) const {
        const int chain = unit.chain(turn, half);
        return k < unit.count(deal(), chain) ? unit.start(deal(), chain) + k * deal().step : -1;
    }
};
