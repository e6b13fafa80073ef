// A mixture of experts: a warp of every block finds those of the token, and all share their rows.

/// The chosen experts and their shares, in shared memory.
struct Route {
  int* expert;
  float* share;
};

/// Finds the likeliest experts, of equals the first, by one warp. `factors` may be null.
__device__ __forceinline__ void choose(const Step& step, const float* logits, const Route& route) {
  constexpr int EACH = EXPERTS_AT_MOST / 32;
  const int lane = threadIdx.x % 32, count = step[EXPERTS], top = step[TOP];
  const float scale = step.real(ROUTER_SCALE);
  float all[EACH];
  u32 keys[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int e = i * 32 + lane;
    all[i] = e < count ? scale * fresh(logits + e) : 0.0f;
    keys[i] = e < count ? ordered(all[i]) : 0;
  }
  float highest = 0.0f, chosen = 0.0f, total = 0.0f;
#pragma unroll 1
  for (int slot = 0; slot < top; slot++) {
    u32 best = 0, at = ~0u;
#pragma unroll
    for (int i = 0; i < EACH; i++) best = keys[i] > best ? keys[i] : best;
    best = __reduce_max_sync(~0u, best);
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--) at = keys[i] == best ? i * 32 + lane : at;
    at = __reduce_min_sync(~0u, at);
#pragma unroll
    for (int i = 0; i < EACH; i++) keys[i] = i * 32 + lane == at ? 0 : keys[i];
    const float logit = unordered(best);
    if (slot == 0) highest = logit;
    const float share = expf(logit - highest);
    chosen += share;
    // An expert is one of them whatever the logits are.
    if (lane == 0) route.expert[slot] = smaller((int)at, count - 1), route.share[slot] = share;
  }
  if (step[RENORMALISED]) {
    total = chosen;
  } else {
#pragma unroll
    for (int i = 0; i < EACH; i++) total += i * 32 + lane < count ? expf(all[i] - highest) : 0.0f;
    total = warp_sum(total);
  }
  __syncwarp();
  if (lane < top) {
    const float* factors = step.at<float>(FACTORS);
    const float factor = factors ? __ldg(factors + route.expert[lane]) : 1.0f;
    route.share[lane] = route.share[lane] / total * factor;
  }
}

/// Every block finds the experts for itself.
__device__ __forceinline__ void find_route(const Step& step, const float* arena, const Route& route) {
  if (threadIdx.x < 32) choose(step, arena + step[ROUTER_LOGITS], route);
  __syncthreads();
}

/// Gates and their partners of the chosen experts: a vector for each of them.
template <int FORMAT_>
__device__ __noinline__ void multiply_experts(const Step& step, const Vector& x, const Route& route, float* arena) {
  const Packing by(step);
  const int lane = threadIdx.x % 32, rows = step[ROWS];
  const Matrix gate = by.matrix<FORMAT_>(step, 0), up = by.matrix<FORMAT_>(step, 1);
  const Number *gate_bias = step.at(MATRIX + 3), *up_bias = step.at(MATRIX + 7);
  const Share share(rows * step[TOP]);
  constexpr int PAIRS = rows_at_once<FORMAT_>() / 2;
#pragma unroll 1
  for (int from = share.from; from < share.to; from += PAIRS) {
    float sums[2 * PAIRS];
    u64 at[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      const int pair = smaller(from + i, share.to - 1), slot = pair / rows;
      at[i] = (u64)route.expert[slot] * rows + (pair - slot * rows);
    }
    multiply_rows<FORMAT_>(
        by, [&](int r) { return r % 2 == 0 ? gate : up; }, [&](int r) { return at[r / 2]; }, x.x, x.sums, sums);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      if (lane != i || from + i >= share.to) continue;
      const float g = sums[2 * i] + (gate_bias ? to_float(__ldg(gate_bias + at[i])) : 0.0f);
      const float u = sums[2 * i + 1] + (up_bias ? to_float(__ldg(up_bias + at[i])) : 0.0f);
      arena[step[TO] + from + i] = activate(step, g, u);
    }
  }
}

/// The sum of what the chosen experts make of their vectors, each times its share: a row of all of them is one warp's.
template <int FORMAT_, int ROWS_>
__device__ __forceinline__ void sum_experts(const Step& step, const Packing& by, const Matrix& m, const Vector& x,
                                            const Route& route, const int (&rows)[ROWS_], float (&to)[ROWS_]) {
  constexpr int EACH = lane_columns<FORMAT_>(), DEEP = 2 * rows_at_once<FORMAT_>() / ROWS_;
  const int lane = threadIdx.x % 32, chunks = ceil_div(by.columns, 32 * EACH), all = chunks * step[TOP];
  float sum[ROWS_] = {};
#pragma unroll 1
  for (int base = 0; base < all; base += DEEP) {
    Piece pieces[DEEP][ROWS_];
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      const int slot = smaller(base + d, all - 1) / chunks, chunk = base + d - slot * chunks;
      const u64 first = (u64)route.expert[slot] * step[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS_; r++)
        pieces[d][r] = read_piece<FORMAT_>(m, by, first + rows[r], (chunk * 32 + lane) * EACH);
    }
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      const int chunk = base + d;
      if (chunk >= all) break;
      const float share = route.share[chunk / chunks];
      const float4* at = reinterpret_cast<const float4*>(x.x) + chunk * (EACH / 4) * 32 + lane;
      const float total = is_affine<FORMAT_>() ? x.sums[chunk * 32 + lane] : 0.0f;
#pragma unroll
      for (int r = 0; r < ROWS_; r++)
        sum[r] = fmaf(share, piece_product<FORMAT_>(pieces[d][r], at, total), sum[r]);
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS_; r++) to[r] = warp_sum(sum[r]);
}

template <int FORMAT_>
__device__ __noinline__ void add_experts(const Step& step, const Vector& x, const Route& route, float* arena) {
  const Packing by(step);
  const int lane = threadIdx.x % 32;
  const Matrix m = by.matrix<FORMAT_>(step, 0);
  const Number* bias = step.at(MATRIX + 3);
  const Share share(step[ROWS]);
  in_pieces<rows_at_once<FORMAT_>()>(share, [&](auto count, int from) {
    constexpr int COUNT = decltype(count)::VALUE;
    int rows[COUNT];
    float sums[COUNT];
#pragma unroll
    for (int r = 0; r < COUNT; r++) rows[r] = smaller(from + r, share.to - 1);
    sum_experts<FORMAT_>(step, by, m, x, route, rows, sums);
#pragma unroll
    for (int r = 0; r < COUNT; r++) {
      if (lane != r || from + r >= share.to) continue;
      float sum = sums[r];
      if (bias != nullptr)
        for (int slot = 0; slot < step[TOP]; slot++)
          sum = fmaf(route.share[slot], to_float(__ldg(bias + (u64)route.expert[slot] * step[ROWS] + rows[r])), sum);
      arena[step[TO] + rows[r]] = sum;
    }
  });
}
