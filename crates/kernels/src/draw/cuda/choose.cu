// Puts the tokens by their bins, and then, in the block of a row that is the last to have done so, applies the filters
// and draws.

/// Of the tokens of these bins that are left and weigh more than `bound`, the smallest logit, or the largest. False
/// if there is none.
__device__ __noinline__ bool outermost(Row& row, u32 first, u32 end, bool is_smallest, u64 bound, float& x) {
    Kept& kept = *row.kept;
    end = end < BINS ? end : BINS;
    __syncthreads();
    if (threadIdx.x == 0) kept.numbers[0] = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 i = kept.start[first] + threadIdx.x; i < kept.start[end]; i += THREADS) {
        const Token token = row.token(i);
        if (!row.keeps(token) || row.weigh(MASS, token.x) <= bound) continue;
        atomicMax(&kept.numbers[0], is_smallest ? ~ordered(token.x) : ordered(token.x));
    }
    __syncthreads();
    const u32 found = kept.numbers[0];
    x = unordered(is_smallest ? ~found : found);
    return found != 0;
}

/// The first bin that is not empty, or the last one of those before `end`; BINS if there is none.
__device__ __noinline__ u32 outermost_bin(Row& row, u32 end, bool is_last) {
    Kept& kept = *row.kept;
    __syncthreads();
    if (threadIdx.x == 0) kept.numbers[0] = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 bin = threadIdx.x; bin < end; bin += THREADS)
        if (kept.count[bin] != 0) atomicMax(&kept.numbers[0], is_last ? bin + 1 : BINS - bin);
    __syncthreads();
    const u32 found = kept.numbers[0];
    return found == 0 ? BINS : is_last ? found - 1 : BINS - found;
}

/// The tokens of some bins.
__device__ __forceinline__ Ranges of_bins(const Kept& kept, u32 first, u32 end) {
    return {{kept.start[first], 0}, {kept.start[end < BINS ? end : BINS], 0}};
}

/// Leaves what is not below a token, in the order of logits, if the token's bin was gathered.
__device__ __forceinline__ void keep_down_to(Row& row, Token least, const Ranges& ranges) {
    __syncthreads();
    if (least.x < row.least.x || (least.x == row.least.x && least.id >= row.least.id)) return;
    row.least = least;
    empty(row, row.bin_of(least.x) + 1, BINS);
    sum_up(row, ranges);
}

/// The fewest of the largest that weigh what is wanted.
__device__ __forceinline__ void keep_largest(Row& row, Wanted wanted, u64 number, float part) {
    Kept& kept = *row.kept;
    const bool counts = wanted == EXACTLY;
    const Place place = reach(row, {kept.mass, counts ? kept.count : nullptr, BINS}, wanted, number, part);
    if (place.at == BINS) return;
    const Ranges ranges = of_bins(kept, place.at, place.at + 1);
    gather(row, ranges);
    keep_down_to(row, reach_in(row, ranges, {false, place.at * STEPS, 3}, counts ? COUNT : MASS, place.wanted), ranges);
}

/// The fewest of those nearest to the center that weigh a share of all.
__device__ __forceinline__ void keep_nearest(Row& row, float of) {
    Kept& kept = *row.kept;
    u64 mass, moments;
    sums(row, mass, moments);
    row.center = (float)((double)row.max - (double)moments / (double)mass);
    const u32 center = row.bin_of(row.center);
    const Bins bins = {kept.mass, nullptr, center};
    const Place place = reach(row, bins, SHARE, 0, of);
    if (place.at == BINS) return;
    // The center is anywhere in its bin. So what is in the bins that are nearer by two is surely nearer than the bound,
    // and what is in those farther by two is farther.
    const u32 at = place.at, left = center > at ? center - at - 1 : 0;
    const u32 right = center + at + 2 < BINS ? center + at + 2 : BINS;
    Ranges ranges = of_bins(kept, left, right);
    u64 wanted = share(of, mass);
    if (at >= 2) {
        ranges.end[0] = kept.start[center + 2 > at ? center + 2 - at : 0];
        ranges.begin[1] = kept.start[center + at - 1 < BINS ? center + at - 1 : BINS], ranges.end[1] = kept.start[right];
        wanted = place.wanted + bins.get(at - 1);
    }
    gather(row, ranges);
    const Token last = reach_in(row, ranges, {true, at <= 2 ? 0 : (at - 2) * STEPS - 64, 0}, MASS, wanted);
    __syncthreads();
    row.has_center = true, row.distance = fabsf(last.x - row.center), row.farthest = last.id;
    empty(row, 0, left);
    empty(row, right, BINS);
    sum_up(row, ranges);
    row.is_sure = row.has_moment = false;
}

/// Those so much less probable than the most probable, at the most.
__device__ __forceinline__ void keep_near_largest(Row& row, float logarithm) {
    float max = row.max;
    if (!row.is_sure) {
        const u32 bin = outermost_bin(row, BINS, false);
        outermost(row, bin, bin + 1, false, 0, max);
    }
    float least = __fadd_rn(max, logarithm);
    least = least < max ? least : max;
    const u32 bin = row.bin_of(least);
    const Ranges ranges = of_bins(*row.kept, bin, bin + 1);
    gather(row, ranges);
    keep_down_to(row, {least, ~0u}, ranges);
}

/// Of those more probable than the threshold, the least probable and the spared.
__device__ __forceinline__ void leave_out_top(Row& row, float threshold, const float* changed) {
    Kept& kept = *row.kept;
    u64 mass, moments;
    sums(row, mass, moments);
    const u64 bound = (u64)((double)threshold * (double)mass);
    // No weight is more than that of the largest logit.
    if (bound >= (u64)ONE) return;
    const u32 bin = steps(-logf((float)bound / ONE)) / STEPS, first = bin == 0 ? 0 : bin - 1;
    float least;
    if (!outermost(row, first, bin + 2, true, bound, least)) {
        const u32 last = outermost_bin(row, first, true);
        if (last == BINS || !outermost(row, last, last + 1, true, bound, least)) return;
    }
    __syncthreads();
    const u32 of_least = row.bin_of(least);
    empty(row, 0, of_least);
    const Ranges ranges = of_bins(kept, of_least, of_least + 1);
    gather(row, ranges);
    row.most = least;
    sum_up(row, ranges);
    const u32* spared = row.slot->at(SPARED_AT);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < row.slot->get(SPARED); i += THREADS) {
        const Token token = {changed[spared[i]], spared[i]};
        const u32 at = row.bin_of(token.x);
        if (token.x == minus_infinity() || at >= of_least || !row.keeps(token)) continue;
        const float below = row.max - token.x;
        add_to(kept, at, 1, weight(below), row.weigh(TEMPERED, token.x), moment(below));
    }
    __syncthreads();
    row.is_sure = false;
}

/// The filter of this number.
__device__ __forceinline__ void filter(u32 number, Row& row, u32 columns, const float* changed) {
    const Slot& slot = *row.slot;
    if (number == 0) {
        const u32 k = slot.get(TOP_K);
        if (k != 0 && k < columns) keep_largest(row, EXACTLY, k, 0.0f);
    } else if (!slot.has(HAS_TOP_P << (number - 1))) {
        return;
    } else if (number == 1) {
        keep_largest(row, SHARE, 0, slot.number(TOP_P));
    } else if (number == 2) {
        keep_nearest(row, slot.number(TYPICAL_P));
    } else if (number == 3) {
        // The host has taken the logarithm.
        keep_near_largest(row, slot.number(MIN_P));
    } else if (slot.uniform(1) < (double)slot.number(XTC_PROBABILITY)) {
        leave_out_top(row, slot.number(XTC_THRESHOLD), changed);
    }
}

/// By the weights of what is left, the most probable first.
__device__ __forceinline__ u32 pick(Row& row) {
    Kept& kept = *row.kept;
    bool is_tempered = row.factor != 1.0f;
    const u32 first = outermost_bin(row, BINS, false);
    if ((float)first * row.factor > 512.0f) {
        // All that is left weighs next to nothing beside what is gone.
        outermost(row, first, first + 1, false, 0, row.base);
        const float last = (float)first + 2.0f + 1920.0f / row.factor;
        const u32 end = last < (float)BINS ? (u32)last : BINS;
        const Ranges ranges = of_bins(kept, first, end);
        gather(row, ranges);
        sum_up(row, ranges);
#pragma unroll 1
        for (u32 bin = end + threadIdx.x; bin < BINS; bin += THREADS) kept.tempered[bin] = 0;
        is_tempered = true;
    }
    const Bins bins = {is_tempered ? kept.tempered : kept.mass, nullptr, BINS};
    const Place place = reach(row, bins, MORE, 0, row.slot->uniform(0));
    const Ranges ranges = of_bins(kept, place.at, place.at + 1);
    gather(row, ranges);
    return reach_in(row, ranges, {false, place.at * STEPS, 3}, is_tempered ? TEMPERED : MASS, place.wanted).id;
}

/// Where the tokens of each bin begin.
__device__ __forceinline__ void find_starts(Kept& kept, const Work* work) {
    const u32 each = BINS / THREADS, first = threadIdx.x * each;
    u32 counts[each], sum = 0;
#pragma unroll
    for (u32 i = 0; i < each; i++) counts[i] = __ldcg(&work->count[first + i]), sum += counts[i];
    const u32 in_warp = (u32)up_to_lane(sum);
    if (threadIdx.x % 32 == 31) kept.warps[threadIdx.x / 32] = in_warp;
    __syncthreads();
    u32 before = in_warp - sum;
#pragma unroll
    for (u32 warp = 0; warp < WARPS; warp++)
        if (warp < threadIdx.x / 32) before += (u32)kept.warps[warp];
#pragma unroll
    for (u32 i = 0; i < each; i++) kept.start[first + i] = before, before += counts[i];
    if (threadIdx.x == THREADS - 1) kept.start[BINS] = before;
    __syncthreads();
}

/// `id`: of each row, what was drawn, a place within the row whatever the logits are; `seen`: the same, or -1 where
/// the logits are not numbers, and -2 where nothing is left of them.
extern "C" __global__ void __launch_bounds__(THREADS) choose(
    const float* changed, u32* all, const u32* counted, SLOTS(u32*), int* id, int* seen, Token* tokens, int columns,
    int parts, int work_words) {
    extern __shared__ __align__(16) unsigned char memory[];
    const u32 number = blockIdx.x / parts, part = blockIdx.x % parts, thread = threadIdx.x;
    u32* const words_of_slot = PICKED(number);
    Slot slot = {words_of_slot, words_of_slot};
    Work* const work = (Work*)(all + (u64)number * work_words);
    changed += (u64)number * columns, tokens += (u64)number * columns;
    Kept& kept = *(Kept*)memory;
    const Found found = of_parts(work, parts);
    const bool is_greedy = slot.has(GREEDY), is_something = found.are_numbers() && found.is_finite();
    const float max = found.max();
    if (is_greedy || !is_something) {
        if (part != 0) return;
    } else {
        // Tokens of a bin are counted in the block first: in `taken`, and then where those of the block begin.
        u32* const taken = kept.count;
#pragma unroll
        for (u32 bin = thread; bin < BINS; bin += THREADS) taken[bin] = 0;
        find_starts(kept, work);
        float x[EACH];
        u32 at[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const u32 token = part * PART + i * THREADS + thread;
            x[i] = token < (u32)columns ? changed[token] : minus_infinity();
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (x[i] != minus_infinity()) at[i] = atomicAdd(&taken[steps(max - x[i]) / STEPS], 1u);
        __syncthreads();
#pragma unroll
        for (u32 bin = thread; bin < BINS; bin += THREADS)
            if (taken[bin] != 0) taken[bin] = kept.start[bin] + atomicAdd(&work->taken[bin], taken[bin]);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const u32 token = part * PART + i * THREADS + thread;
            if (x[i] != minus_infinity()) tokens[taken[steps(max - x[i]) / STEPS] + at[i]] = {x[i], token};
        }
        __threadfence();
        __syncthreads();
        if (thread == 0) kept.told[0] = atomicAdd(&work->ticket, 1u);
        __syncthreads();
        if (kept.told[0] != parts - 1) return;
        __threadfence();
    }
    // All others have gone; what is asked for is needed again and again.
    if (thread < HEAD) kept.head[thread] = slot.head[thread];
    __syncthreads();
    slot.head = kept.head;
    u32 drawn = ~(u32)found.best;
    if (!is_greedy && is_something) {
        Row row;
        row.kept = &kept, row.tokens = tokens, row.slot = &slot, row.max = row.base = max;
        row.factor = slot.has(TEMPERATURE_FIRST) ? 1.0f : per_temperature(slot.number(TEMPERATURE));
        row.has_center = false, row.center = row.distance = 0.0f, row.farthest = 0;
        row.least = {minus_infinity(), ~0u}, row.most = -minus_infinity(), row.is_sure = true, row.has_moment = slot.has(HAS_TYPICAL_P);
#pragma unroll
        for (u32 bin = thread; bin < BINS; bin += THREADS) {
            kept.mass[bin] = __ldcg(&work->mass[bin]), kept.tempered[bin] = __ldcg(&work->tempered[bin]);
            kept.moment[bin] = __ldcg(&work->moment[bin]), kept.count[bin] = __ldcg(&work->count[bin]);
        }
        __syncthreads();
        // Their numbers, the first in the lowest digit.
        u32 filters = slot.has(TEMPERATURE_FIRST) ? 0x42310 : 0x04312;
#pragma unroll 1
        for (int i = 0; i < 5; i++, filters >>= 4) filter(filters & 15, row, columns, changed);
        drawn = pick(row);
    }
    if (thread == 0) {
        id[number] = is_something ? drawn : 0;
        seen[number] = is_something ? (int)drawn : found.are_numbers() ? -2 : -1;
        if (is_something) remember(slot, drawn);
    }
    if (is_something && slot.has(HAS_DRY)) {
        __syncthreads();
        slot.head = slot.words;
        find_repetitions(slot);
    }
}
