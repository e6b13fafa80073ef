// Reads logits and changes them as biases, penalties and masks have it.

/// A block has a part of a row. Writes the logits to `changed`, and what is known of the part to `all`, which is empty
/// otherwise.
extern "C" __global__ void __launch_bounds__(THREADS) change(
    const float* logits, const u32* mask, SLOTS(u32*), float* changed, u32* all, int columns, int words, int parts,
    int work_words) {
    extern __shared__ __align__(16) unsigned char memory[];
    const u32 number = blockIdx.x / parts, part = blockIdx.x % parts, first = part * PART;
    u32* const words_of_slot = PICKED(number);
    const Slot slot = {words_of_slot, words_of_slot};
    u32* const row = all + (u64)number * work_words;
    logits += (u64)number * columns, changed += (u64)number * columns, mask += number * words;

    u64* const own = (u64*)((Work*)row + 1) + 2 * part;
#pragma unroll 1
    for (u32 i = part * THREADS + threadIdx.x; i < sizeof(Work) / 4; i += parts * THREADS) row[i] = 0;
    const u32 biases = slot.get(BIASES), allowed = slot.get(ALLOWED);
    float* const added = (float*)memory;
    if (biases != 0) {
#pragma unroll 1
        for (u32 i = threadIdx.x; i < PART; i += THREADS) added[i] = 0.0f;
        __syncthreads();
        const u32* list = slot.at(BIASES_AT);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < biases; i += THREADS) {
            const u32 at = list[2 * i] - first;
            if (at < PART) added[at] = __uint_as_float(list[2 * i + 1]);
        }
        __syncthreads();
    }
    const bool lessens = slot.get(REPETITION_CONTEXT) != 0 || slot.has(HAS_LESS | HAS_DRY);
    const float divisor = slot.has(TEMPERATURE_FIRST) && !slot.has(GREEDY) ? slot.number(TEMPERATURE) : 1.0f;
    float x[EACH];
    Past past[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const u32 id = first + i * THREADS + threadIdx.x;
        past[i] = {0, 0, 0};
        x[i] = minus_infinity();
        if (id >= (u32)columns) continue;
        x[i] = logits[id];
        if (lessens) past[i] = past_of(slot, id);
    }
    Found found = {0, 0};
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const u32 id = first + i * THREADS + threadIdx.x;
        if (id >= (u32)columns) break;
        float y = x[i];
        // Not for a number that is none, nor for one that is too large for others to be near.
        found.count += y < -minus_infinity() ? y > minus_infinity() : 1ull << 40;
        if (biases != 0) y = __fadd_rn(y, added[id - first]);
        if (past[i].seen + past[i].count + past[i].repeated != 0) y = lessened(slot, id, past[i], y);
        if (allowed != 0 && (id / 32 >= allowed || (slot.at(ALLOWED_AT)[id / 32] >> id % 32 & 1) == 0)) y = minus_infinity();
        if (words != 0 && (id / 32 >= (u32)words || (mask[id / 32] >> id % 32 & 1) == 0)) y = minus_infinity();
        if (divisor != 1.0f) y = __fdiv_rn(y, divisor);
        changed[id] = y;
        const u64 best = (u64)ordered(y) << 32 | (u32)~id;
        if (best > found.best) found.best = best;
    }
    found = of_warp(found);
    Found* const of_warps = (Found*)memory;
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = found;
    __syncthreads();
    if (threadIdx.x < 32) {
        found = of_warp((int)threadIdx.x < WARPS ? of_warps[threadIdx.x] : Found{0, 0});
        if (threadIdx.x == 0) own[0] = found.best, own[1] = found.count;
    }
}
