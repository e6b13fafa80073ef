// What the filters have left of a row, for the one block that applies them: the sums of each bin, and the tests that
// tell of a token whether it is left.
//
// The tokens lie by bins. A filter finds the bin where its bound is by the sums alone, and only what is in that bin is
// looked at.

/// A token with its logit.
struct Token {
    float x;
    u32 id;
};

/// So many tokens are held near.
const u32 LIST = 3072;

enum Kind { COUNT, MASS, TEMPERED };

/// What is shared by the block.
struct Kept {
    u64 mass[BINS], tempered[BINS], moment[BINS];
    u32 count[BINS];
    /// Where the tokens of each bin begin.
    u32 start[BINS + 1];
    /// A word is left free behind eight, so that lanes which have eight each do not meet in banks.
    Sum digits[288];
    u32 numbers[256];
    u64 warps[WARPS], moments[WARPS];
    /// What one thread tells the others.
    u64 told[2];
    Token list[LIST], few[32];
    u32 few_count, head[HEAD];
};
static_assert(sizeof(Kept) <= CHOOSE_BYTES, "the host asks for enough");

struct Row {
    Kept* kept;
    const Token* tokens;
    const Slot* slot;
    float max;
    /// What weights with the temperature are measured from, and their factor.
    float base, factor;
    /// Typical sampling: how far what is left may be, and which id the last one may have that is so far.
    bool has_center;
    float center, distance;
    u32 farthest;
    /// The last one that is left in the order of logits; ids up to this one.
    Token least;
    /// Above this only the spared ones are left.
    float most;
    /// Whether the largest is left, and whether moments are wanted.
    bool is_sure, has_moment;

    __device__ __forceinline__ u64 weigh(Kind kind, float x) const {
        return kind == COUNT ? 1 : kind == MASS ? weight(max - x) : weight((base - x) * factor);
    }

    __device__ __forceinline__ u32 bin_of(float x) const { return steps(max - x) / STEPS; }

    __device__ __noinline__ bool keeps(Token token) const {
        const float x = token.x;
        if (x < least.x || (x == least.x && token.id > least.id)) return false;
        if (has_center) {
            const float away = fabsf(x - center);
            if (away > distance) return false;
            if (away == distance && token.id > farthest) return false;
        }
        return x <= most || slot->lists(SPARED, SPARED_AT, token.id);
    }

    __device__ __forceinline__ Token token(u32 at) const { return {__ldcg(&tokens[at].x), __ldcg(&tokens[at].id)}; }
};

__device__ __forceinline__ u64 over_warp(u64 x) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(~0u, x, d);
    return x;
}

/// The sum over the lanes up to this one.
__device__ __forceinline__ u64 up_to_lane(u64 x) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 d = 1; d < 32; d <<= 1) {
        const u64 other = __shfl_up_sync(~0u, x, d);
        if (lane >= d) x += other;
    }
    return x;
}

/// A place in an order of bins, and what of a sum is wanted of the bin there.
struct Place {
    u32 at;
    u64 wanted;
};

/// The sum of a kind over the bins; of pairs, those that are equally far from bin `center`.
struct Bins {
    const u64* sums;
    const u32* counts;
    /// BINS where the order is the bins'.
    u32 center;

    __device__ __forceinline__ u64 get(u32 at) const {
        if (center == BINS) return counts != nullptr ? counts[at] : sums[at];
        u64 sum = center >= at ? sums[center - at] : 0;
        if (at != 0 && center + at < BINS) sum += sums[center + at];
        return sum;
    }
};

/// The mass that is a share of all, or a little more, and something.
__device__ __forceinline__ u64 share(float of, u64 mass) {
    const u64 wanted = (u64)ceil((double)of * (double)mass);
    return wanted == 0 ? 1 : wanted;
}

/// The sum over all bins, `mine` being that over this thread's, and in `before` that over those before them.
__device__ __forceinline__ u64 total(Kept& kept, u64 mine, u64& before) {
    const u64 in_warp = up_to_lane(mine);
    __syncthreads();
    if (threadIdx.x % 32 == 31) kept.warps[threadIdx.x / 32] = in_warp;
    __syncthreads();
    u64 all = 0;
    before = in_warp - mine;
#pragma unroll
    for (u32 warp = 0; warp < WARPS; warp++) {
        if (warp < threadIdx.x / 32) before += kept.warps[warp];
        all += kept.warps[warp];
    }
    return all;
}

/// The sums of mass and moment over all bins.
__device__ __forceinline__ void sums(Row& row, u64& mass, u64& moment) {
    Kept& kept = *row.kept;
    mass = moment = 0;
#pragma unroll
    for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) mass += kept.mass[bin], moment += kept.moment[bin];
    mass = over_warp(mass), moment = over_warp(moment);
    __syncthreads();
    if (threadIdx.x % 32 == 0) kept.warps[threadIdx.x / 32] = mass, kept.moments[threadIdx.x / 32] = moment;
    __syncthreads();
    mass = moment = 0;
#pragma unroll
    for (u32 warp = 0; warp < WARPS; warp++) mass += kept.warps[warp], moment += kept.moments[warp];
}

/// What is wanted of a sum over bins: a number, a share, or more than a share.
enum Wanted { EXACTLY, SHARE, MORE };

/// Where the sum over the bins reaches what is wanted, and BINS where it does not.
__device__ __noinline__ Place reach(Row& row, const Bins bins, Wanted kind, u64 number, double part) {
    Kept& kept = *row.kept;
    const u32 each = BINS / THREADS, first = threadIdx.x * each;
    u64 sum = 0, before;
#pragma unroll
    for (u32 i = 0; i < each; i++) sum += bins.get(first + i);
    const u64 all = total(kept, sum, before);
    u64 wanted = number;
    if (kind == SHARE) wanted = share((float)part, all);
    if (kind == MORE) {
        wanted = (u64)(part * (double)all) + 1;
        if (wanted > all) wanted = all;
    }
    if (all < wanted) return {BINS, wanted};
    if (before < wanted && before + sum >= wanted) {
        u64 left = wanted - before;
        u32 at = first;
#pragma unroll 1
        for (u64 here; (here = bins.get(at)) < left; at++) left -= here;
        kept.told[0] = at, kept.told[1] = left;
    }
    __syncthreads();
    return {(u32)kept.told[0], kept.told[1]};
}

/// Tokens that lie behind each other, twice.
struct Ranges {
    u32 begin[2], end[2];

    __device__ __forceinline__ u32 size() const { return end[0] - begin[0] + (end[1] - begin[1]); }
    __device__ __forceinline__ u32 at(u32 i) const {
        const u32 first = end[0] - begin[0];
        return i < first ? begin[0] + i : begin[1] + (i - first);
    }
};

/// The id of a token that is not left.
const u32 GONE = ~0u;

/// The `i`th token of those that `gather` has looked at.
__device__ __forceinline__ Token gathered(const Row& row, const Ranges& ranges, u32 i) {
    if (ranges.size() <= LIST) return row.kept->list[i];
    Token token = row.token(ranges.at(i));
    if (!row.keeps(token)) token.id = GONE;
    return token;
}

/// Brings tokens nearer, if they are not too many.
__device__ __noinline__ void gather(Row& row, const Ranges ranges) {
    const u32 size = ranges.size();
    if (size > LIST) return;
    __syncthreads();
#pragma unroll 4
    for (u32 i = threadIdx.x; i < size; i += THREADS) row.kept->list[i] = row.token(ranges.at(i));
#pragma unroll 1
    for (u32 i = threadIdx.x; i < size; i += THREADS)
        if (!row.keeps(row.kept->list[i])) row.kept->list[i].id = GONE;
}

/// An order of tokens.
struct Order {
    /// By the distance from the center, else the largest logit first; of equal ones the first ids come first.
    bool by_center;
    /// None is nearer than so many steps, and none farther than 2^16 such, halved so many times.
    u32 nearest, halved;

    /// 48 bits: how far it is, in steps, and then exactly.
    __device__ __forceinline__ u64 key(const Row& row, float x) const {
        const float away = by_center ? fabsf(x - row.center) : row.max - x;
        const u32 step = steps(away), near = step > nearest ? (step - nearest) << halved : 0;
        return (u64)(near < 65535 ? near : 65535) << 32 | (by_center ? __float_as_uint(away) : ~ordered(x));
    }
};

/// The first digits of a key of 48 bits and of an id of 24.
struct Digits {
    u64 key;
    u32 id;
    int known;

    __device__ __forceinline__ bool begin(u64 other, u32 other_id) const {
        if (known <= 6) return other >> (48 - 8 * known) == key;
        return other == key && other_id >> (72 - 8 * known) == id;
    }
    __device__ __forceinline__ u32 next(u64 other, u32 other_id) const {
        return known < 6 ? other >> (40 - 8 * known) & 255 : other_id >> (64 - 8 * known) & 255;
    }
    __device__ __forceinline__ void add(u32 digit) {
        if (known < 6) key = key << 8 | digit;
        else id = id << 8 | digit;
        known++;
    }
};

/// Of the tokens that were gathered and are left, the one with which those up to it weigh `wanted`, which is not more
/// than all of them.
__device__ __noinline__ Token reach_in(Row& row, const Ranges ranges, const Order order, Kind kind, u64 wanted) {
    Kept& kept = *row.kept;
    const u32 size = ranges.size(), lane = threadIdx.x % 32;
    Digits digits = {0, 0, 0};
    bool are_few = false;
#pragma unroll 1
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) kept.few_count = 0;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < 256 && !are_few; i += THREADS) kept.digits[i + i / 8] = {0, 0}, kept.numbers[i] = 0;
        __syncthreads();
#pragma unroll 1
        for (u32 i = threadIdx.x; i < size; i += THREADS) {
            const Token token = gathered(row, ranges, i);
            if (token.id == GONE) continue;
            const u64 key = order.key(row, token.x);
            if (!digits.begin(key, token.id)) continue;
            const u64 weight = row.weigh(kind, token.x);
            if (weight == 0) continue;
            if (are_few) {
                kept.few[atomicAdd(&kept.few_count, 1u)] = token;
            } else {
                const u32 digit = digits.next(key, token.id);
                kept.digits[digit + digit / 8].add(weight);
                atomicAdd(&kept.numbers[digit], 1u);
            }
        }
        __syncthreads();
        if (are_few) break;
        // Each warp for itself.
        const Sum* mine = kept.digits + lane * 9;
        u64 sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) sum += mine[i].get();
        const u64 reached = up_to_lane(sum);
        const u32 votes = __ballot_sync(~0u, reached >= wanted);
        u64 left = wanted - (reached - sum);
        u32 digit = lane * 8;
#pragma unroll 1
        for (int i = 0; i < 7 && mine[i].get() < left; i++) left -= mine[i].get(), digit++;
        const int from = votes != 0 ? __ffs(votes) - 1 : 31;
        wanted = __shfl_sync(~0u, left, from);
        digit = __shfl_sync(~0u, digit, from);
        digits.add(digit);
        are_few = kept.numbers[digit] <= 32;
    }
    const bool is_there = lane < kept.few_count;
    const Token token = kept.few[lane];
    const u64 key = order.key(row, token.x), weight = is_there ? row.weigh(kind, token.x) : 0;
    u64 before = 0;
#pragma unroll 1
    for (u32 i = 0; i < kept.few_count; i++) {
        const u64 other = __shfl_sync(~0u, key, i), other_weight = __shfl_sync(~0u, weight, i);
        const u32 other_id = __shfl_sync(~0u, token.id, i);
        if (other < key || (other == key && other_id < token.id)) before += other_weight;
    }
    const u32 votes = __ballot_sync(~0u, is_there && before < wanted && wanted <= before + weight);
    const int from = votes != 0 ? __ffs(votes) - 1 : 0;
    return {__shfl_sync(~0u, token.x, from), __shfl_sync(~0u, token.id, from)};
}

/// Adds to the sums of a bin.
__device__ __forceinline__ void add_to(Kept& kept, u32 bin, u32 count, u64 mass, u64 tempered, u64 moment) {
    if (count == 0) return;
    atomicAdd(&kept.count[bin], count);
    ((Sum*)&kept.mass[bin])->add(mass);
    ((Sum*)&kept.tempered[bin])->add(tempered);
    if (moment != 0) ((Sum*)&kept.moment[bin])->add(moment);
}

/// Sums up anew the bins of the tokens that were gathered.
__device__ __noinline__ void sum_up(Row& row, const Ranges ranges) {
    Kept& kept = *row.kept;
    const u32 size = ranges.size(), lane = threadIdx.x % 32;
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < size; i += THREADS) {
        const u32 bin = row.bin_of(gathered(row, ranges, i).x);
        kept.mass[bin] = kept.tempered[bin] = kept.moment[bin] = kept.count[bin] = 0;
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i - lane < size; i += THREADS) {
        Token token = {0.0f, GONE};
        if (i < size) token = gathered(row, ranges, i);
        const bool stays = token.id != GONE && row.keeps(token);
        const u32 votes = __ballot_sync(~0u, stays);
        if (votes == 0) continue;
        u64 mass = 0, tempered = 0, moments = 0;
        u32 bin = 0;
        if (stays) {
            const float below = row.max - token.x;
            bin = steps(below) / STEPS, mass = weight(below), tempered = mass;
            if (row.factor != 1.0f || row.base != row.max) tempered = row.weigh(TEMPERED, token.x);
            if (row.has_moment) moments = moment(below);
        }
        // Most warps look at one bin.
        const u32 first = __shfl_sync(~0u, bin, __ffs(votes) - 1);
        if (__ballot_sync(~0u, stays && bin != first) != 0) {
            add_to(kept, bin, stays, mass, tempered, moments);
            continue;
        }
        mass = over_warp(mass), tempered = over_warp(tempered), moments = row.has_moment ? over_warp(moments) : 0;
        u32 count = votes - (votes >> 1 & 0x55555555u);
        count = (count & 0x33333333u) + (count >> 2 & 0x33333333u);
        count = ((count + (count >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
        if (lane == 0) add_to(kept, first, count, mass, tempered, moments);
    }
    __syncthreads();
}

/// Nothing is left in these bins.
__device__ __forceinline__ void empty(Row& row, u32 first, u32 end) {
#pragma unroll 1
    for (u32 bin = first + threadIdx.x; bin < end; bin += THREADS)
        row.kept->mass[bin] = row.kept->tempered[bin] = row.kept->moment[bin] = row.kept->count[bin] = 0;
}
