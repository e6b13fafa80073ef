// Counts what lies how far below the largest logit.

/// What is in the bins. Where nothing is drawn at random, nothing.
extern "C" __global__ void __launch_bounds__(THREADS) count(
    const float* changed, u32* all, SLOTS(u32*), u32* done, int columns, int parts, int work_words) {
    extern __shared__ __align__(16) unsigned char memory[];
    const u32 number = blockIdx.x / parts, part = blockIdx.x % parts;
    u32* const words_of_slot = PICKED(number);
    const Slot slot = {words_of_slot, words_of_slot};
    if (slot.has(GREEDY)) return;
    Work* const work = (Work*)(all + (u64)number * work_words);
    changed += (u64)number * columns;
    const Found found = of_parts(work, parts);
    const float max = found.max(), temperature = slot.has(TEMPERATURE_FIRST) ? 1.0f : slot.number(TEMPERATURE);
    const float factor = per_temperature(temperature);
    const bool has_moment = slot.has(HAS_TYPICAL_P), is_tempered = temperature != 1.0f;
    Sum *mass = (Sum*)memory, *tempered = mass + BINS, *moments = tempered + BINS;
    u32* counts = (u32*)(moments + BINS);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < BINS * 7; i += THREADS) ((u32*)memory)[i] = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 i = part * PART + threadIdx.x; i < (part + 1) * PART && i < (u32)columns; i += THREADS) {
        const float x = changed[i];
        if (x == minus_infinity()) continue;
        const float below = max - x;
        const u32 bin = steps(below) / STEPS;
        atomicAdd(&counts[bin], 1u);
        mass[bin].add(weight(below));
        if (is_tempered) tempered[bin].add(weight(below * factor));
        if (has_moment) moments[bin].add(moment(below));
    }
    __syncthreads();
#pragma unroll 1
    for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
        if (counts[bin] == 0) continue;
        atomicAdd(&work->count[bin], counts[bin]);
        atomicAdd(&work->mass[bin], mass[bin].get());
        if (is_tempered) atomicAdd(&work->tempered[bin], tempered[bin].get());
        if (has_moment) atomicAdd(&work->moment[bin], moments[bin].get());
    }
}
