// One token through a model that is a list of steps, in one launch.
//
// A block stands on each multiprocessor for the whole launch, and the blocks meet between two steps of which the second
// reads what the first has left. What steps leave is small, and stays in the second-level cache. While a block waits,
// the first rows of its next step are fetched into that cache.

/// Has this warp's rows of a product brought into the second-level cache.
__device__ __forceinline__ void prefetch(const Step& step) {
  const int each = lane_columns_of(step[FORMAT]), lane = threadIdx.x % 32;
  const u64 bytes = (u64)(step[COLUMNS] / each) * 16;
  const bool gated = step[ENDING] == GATED;
  int total = 0;
#pragma unroll 1
  for (int part = 0; part < (gated ? 1 : step[PARTS]); part++) total += step.of_part(ROWS, part);
  const Share share(total);
  int before = 0;
#pragma unroll 1
  for (int part = 0; part < step[PARTS]; part++) {
    const int rows = step.of_part(ROWS, part);
    const int from = larger(share.from, before) - before, to = smaller(share.to, before + rows) - before;
    if (from < to) {
      const u64 end = smaller((to - from) * (int)bytes, PREFETCHED);
#pragma unroll 1
      for (u64 i = lane * 128; i < end; i += 32 * 128)
        prefetch_line(step.addresses[MATRIX + 4 * part] + from * bytes + i);
    }
    if (!gated) before += rows;
  }
}

/// Calls `take(format)` with the step's as a constant, one of those that the bits of `THERE` name.
template <u32 THERE, typename Take>
__device__ __forceinline__ void by_format(int format, Take take) {
  if constexpr ((THERE >> FLOATS & 1) != 0)
    if (format == FLOATS) take(Constant<FLOATS>());
  if constexpr ((THERE >> HALVES & 1) != 0)
    if (format == HALVES) take(Constant<HALVES>());
  if constexpr ((THERE >> EIGHT_BITS & 1) != 0)
    if (format == EIGHT_BITS) take(Constant<EIGHT_BITS>());
  if constexpr ((THERE >> FOUR_BITS & 1) != 0)
    if (format == FOUR_BITS) take(Constant<FOUR_BITS>());
  if constexpr ((THERE >> SMALL_FLOATS & 1) != 0)
    if (format == SMALL_FLOATS) take(Constant<SMALL_FLOATS>());
}

/// `list`: for each of `count` steps its words, and the places in `table` of its addresses, below zero where there is
/// none. `caches`: the addresses of the keys and of the values of each layer that writes such. `after` is not read: it
/// orders this launch behind the one that made it. `logits`: float32 `[vocab]`; `done`: a byte for the next launch to
/// wait for. `states`, `tails`: of all gated delta nets, as `Remembered` has them. `ring_*`: where the new key of a layer with a sliding window goes, keys with it, places of its buffer.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    decode_steps(const int* token, const int* list, const u64* table, const u64* caches, u32* scratch,
                 const unsigned char* /*after*/, const float* states, const Number* tails, float* logits,
                 unsigned char* done, float* states_behind, Number* tails_behind, int count, int position,
                 int capacity, int ring_place, int ring_held, int ring_capacity) {
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ u32 flag;
  Step* steps = reinterpret_cast<Step*>(shared);
  float* reduce = reinterpret_cast<float*>(steps + 2);
  const Route route{reinterpret_cast<int*>(reduce + 128), reduce + 128 + TOP_AT_MOST};
  unsigned char* rest = shared + AT_VECTOR;
  float* arena = reinterpret_cast<float*>(scratch + AT_ARENA);
  Barrier barrier(scratch);
  const Spot full{position, position, position + 1, capacity};
  const Spot ring{position, ring_place, ring_held, ring_capacity};
  const Remembered remembered{states, tails, states_behind, tails_behind};

  Coming coming;
  coming.ask(list, table, 0);
  coming.put(steps[0]);
  __syncthreads();
#pragma unroll 1
  for (int index = 0; index < count; index++) {
    const Step& step = steps[index % 2];
    if (index + 1 < count) coming.ask(list, table, index + 1);
    const int each = lane_columns_of(step[FORMAT]);
    float* x = reinterpret_cast<float*>(rest);
    const Vector vector{x, x + step[SUMS_AT], reduce, each};
    const int op = step[OP];
    if (op == EMBED) {
      embed(step, *token, arena);
    } else if (op == OWN_INPUTS) {
      make_own_inputs(step, arena);
    } else if (op == ATTEND) {
      const u64* of_layer = caches + 2 * step[LAYER];
      attend(step, step[SLIDES] ? ring : full, __ldg(of_layer), __ldg(of_layer + 1), arena, rest, &flag);
    } else if (HAS_NETS && op == NET) {
      run_net(step, remembered, arena, rest);
    } else {
      make_input(step, arena, vector);
      // The second half of a mixture follows the first.
      if (op == EXPERTS_UP) find_route(step, arena, route);
      if (op == PRODUCT) {
        by_format<PRODUCT_FORMATS>(step[FORMAT], [&](auto format) {
          multiply<decltype(format)::VALUE>(step, vector, arena, logits);
        });
      } else if (op == EXPERTS_UP) {
        by_format<UP_FORMATS>(step[FORMAT], [&](auto format) {
          multiply_experts<decltype(format)::VALUE>(step, vector, route, arena);
        });
      } else {
        by_format<DOWN_FORMATS>(step[FORMAT], [&](auto format) {
          add_experts<decltype(format)::VALUE>(step, vector, route, arena);
        });
      }
    }
    Step& next = steps[(index + 1) % 2];
    const bool meets = step[MEET] != 0;
    coming.put(next);
    if (meets) {
      barrier.arrive();
    } else {
      __syncthreads();
    }
    if (index + 1 < count) {
      if (next[OP] == PRODUCT) prefetch(next);
      if (HAS_NETS && next[OP] == NET) foresee_net(next, remembered);
      if (next[OP] == ATTEND) {
        const u64* of_layer = caches + 2 * next[LAYER];
        foresee_attention(next, next[SLIDES] ? ring : full, __ldg(of_layer), __ldg(of_layer + 1), rest);
      }
    }
    if (meets) barrier.wait_for_all();
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) *done = 1;
  barrier.leave();
}
