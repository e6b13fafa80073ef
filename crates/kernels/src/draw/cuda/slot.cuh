// What is known of a sequence: a buffer of words that the host fills once (`slot.rs` has the same layout), and that
// the kernel then keeps up to date by itself.

/// Words of the beginning.
enum Word {
    TOKENS, DRAWN, UNBROKEN, FLAGS, TEMPERATURE, TOP_K, TOP_P, MIN_P, TYPICAL_P, XTC_PROBABILITY, XTC_THRESHOLD,
    SEED_LOW, SEED_HIGH, REPETITION, REPETITION_CONTEXT, PRESENCE, FREQUENCY, WINDOW, DRY_MULTIPLIER, DRY_BASE,
    DRY_ALLOWED, DRY_CONTEXT, BIASES, BIASES_AT, SPARED, SPARED_AT, BREAKERS, BREAKERS_AT, ALLOWED, ALLOWED_AT,
    CAPACITY, IDS_AT, SEEN_AT, COUNTS_AT, COMMON_AT, REPEATED_AT, HEAD
};

enum Flag {
    GREEDY = 1, TEMPERATURE_FIRST = 2, HAS_DRY = 4, HAS_LESS = 8,
    // In the order of the filters' numbers, of which top-k is the first.
    HAS_TOP_P = 16, HAS_TYPICAL_P = 32, HAS_MIN_P = 64, HAS_XTC = 128
};

/// A sequence's words.
struct Slot {
    u32* words;
    /// Their beginning, or a copy of it that is nearer.
    const u32* head;

    __device__ __forceinline__ u32 get(Word word) const { return head[word]; }
    __device__ __forceinline__ float number(Word word) const { return __uint_as_float(head[word]); }
    __device__ __forceinline__ u32* at(Word offset) const { return words + head[offset]; }
    __device__ __forceinline__ bool has(u32 flag) const { return (head[FLAGS] & flag) != 0; }

    __device__ __noinline__ bool lists(Word count, Word offset, u32 id) const {
        const u32* list = at(offset);
#pragma unroll 1
        for (u32 i = 0; i < get(count); i++)
            if (list[i] == id) return true;
        return false;
    }

    /// Uniform in [0, 1): see `uniform` in ml-backend's random.rs.
    __device__ __noinline__ double uniform(u32 draw) const {
        const u64 seed = (u64)get(SEED_HIGH) << 32 | get(SEED_LOW);
        const u64 place = 2ull * get(DRAWN) + draw + 1;
        const u64 bits = mix(mix(seed) + place * 0x9e3779b97f4a7c15ull);
        return (double)(bits >> 11) * (1.0 / 9007199254740992.0);
    }

    static __device__ u64 mix(u64 x) {
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ x >> 27) * 0x94d049bb133111ebull;
        return x ^ x >> 31;
    }
};

/// What a repetition of this length costs.
__device__ __noinline__ float cost_of(const Slot& slot, u32 length) {
    u32 over = length - slot.get(DRY_ALLOWED);
    over = over < 10000 ? over : 10000;
    double growth = 1.0;
#pragma unroll 1
    for (double power = slot.number(DRY_BASE); over != 0; over >>= 1, power *= power)
        if (over & 1) growth *= power;
    const double cost = slot.number(DRY_MULTIPLIER) * growth;
    return (float)(cost < 1e30 ? cost : 1e30);
}

/// What a token's penalties depend on.
struct Past {
    /// Whether it was seen lately, how often it is in the window, and how long the repetition is that it would go on with.
    u32 seen, count, repeated;
};

/// Of several tokens this is best asked first, since it is far away.
__device__ __forceinline__ Past past_of(const Slot& slot, u32 id) {
    Past past = {0, 0, 0};
    if (slot.get(REPETITION_CONTEXT) != 0) past.seen = slot.at(SEEN_AT)[id];
    if (slot.has(HAS_LESS)) past.count = slot.at(COUNTS_AT)[id];
    if (slot.has(HAS_DRY)) past.repeated = slot.at(REPEATED_AT)[id];
    return past;
}

/// A logit after the penalties; each operation is rounded by itself, as on a processor.
__device__ __noinline__ float lessened(const Slot& slot, u32 id, const Past past, float x) {
    if (past.seen != 0) {
        const float penalty = slot.number(REPETITION);
        x = x < 0.0f ? __fmul_rn(x, penalty) : __fdiv_rn(x, penalty);
    }
    if (past.count != 0) {
        x = __fadd_rn(x, -slot.number(PRESENCE));
        x = __fadd_rn(x, -__fmul_rn(slot.number(FREQUENCY), (float)past.count));
    }
    if (past.repeated != 0) {
        slot.at(REPEATED_AT)[id] = 0;
        x = __fadd_rn(x, -cost_of(slot, past.repeated));
    }
    return x;
}

/// The token that was drawn is one of them.
__device__ __forceinline__ void remember(const Slot& slot, u32 id) {
    const u32 tokens = slot.get(TOKENS);
    u32* words = slot.words;
    u32* ids = slot.at(IDS_AT);
    words[DRAWN] = slot.get(DRAWN) + 1;
    if (tokens >= slot.get(CAPACITY)) return;
    ids[tokens] = id;
    words[TOKENS] = tokens + 1;
    const u32 context = slot.get(REPETITION_CONTEXT), window = slot.get(WINDOW);
    if (context != 0) {
        slot.at(SEEN_AT)[id] += 1;
        if (tokens >= context) slot.at(SEEN_AT)[ids[tokens - context]] -= 1;
    }
    if (slot.has(HAS_LESS)) {
        slot.at(COUNTS_AT)[id] += 1;
        if (window != 0 && tokens >= window) slot.at(COUNTS_AT)[ids[tokens - window]] -= 1;
    }
    if (slot.has(HAS_DRY)) words[UNBROKEN] = slot.lists(BREAKERS, BREAKERS_AT, id) ? 0 : slot.get(UNBROKEN) + 1;
}

/// Of each token so far, how many tokens that end with it are those that the text ends with now; of each token that
/// has followed some, the most. For all threads of a block.
__device__ __forceinline__ void find_repetitions(const Slot& slot) {
    const u32 tokens = slot.get(TOKENS), capacity = slot.get(CAPACITY), context = slot.get(DRY_CONTEXT);
    const u32 *ids = slot.at(IDS_AT), *before = slot.at(COMMON_AT) + (tokens & 1) * capacity;
    u32 *now = slot.at(COMMON_AT) + (~tokens & 1) * capacity, *repeated = slot.at(REPEATED_AT);
    const u32 allowed = slot.get(DRY_ALLOWED);
    const u32 start = tokens > context ? tokens - context : 0;
    const u32 longest = slot.get(UNBROKEN) < context ? slot.get(UNBROKEN) : context;
    const u32 last = ids[tokens - 1];
#pragma unroll 1
    for (u32 i = threadIdx.x; i + 1 < tokens; i += THREADS) {
        const u32 same = ids[i] == last ? (i > 0 ? before[i - 1] : 0) + 1 : 0;
        now[i] = same;
        if (i < start || same < allowed) continue;
        u32 length = same < i - start + 1 ? same : i - start + 1;
        length = length < longest ? length : longest;
        const u32 next = ids[i + 1];
        if (length >= allowed && !slot.lists(BREAKERS, BREAKERS_AT, next)) atomicMax(&repeated[next], length);
    }
}
