// Matrices times the vector that every block has: the warps of all blocks share the rows in equal pieces.

/// The rows of `total` that this warp has.
struct Share {
  int from, to;

  __device__ __forceinline__ Share(int total) {
    const u64 warp = threadIdx.x / 32 * GRID + blockIdx.x;
    from = (int)(warp * total / (GRID * WARPS)), to = (int)((warp + 1) * total / (GRID * WARPS));
  }
};

/// Calls `take(count, from)` with a constant count, ROWS or one, for pieces of the share, of which the last may say some
/// twice.
template <int ROWS_, typename Take>
__device__ __forceinline__ void in_pieces(Share share, Take take) {
  int from = share.from;
#pragma unroll 1
  for (; share.to - from > 1; from += ROWS_) take(Constant<ROWS_>(), from);
  if (share.to - from == 1) take(Constant<1>(), from);
}

/// A row of one of a step's matrices.
struct Row {
  int part, row;

  __device__ __forceinline__ Row(const Step& step, int index) : part(0), row(index) {
    while (part + 1 < step[PARTS] && row >= step.of_part(ROWS, part)) row -= step.of_part(ROWS, part), part++;
  }
};

/// What becomes of the sum of a row.
__device__ __forceinline__ void end_row(const Step& step, Row at, float sum, float* arena, float* logits) {
  const Number* bias = step.at(MATRIX + 4 * at.part + 3);
  if (bias != nullptr) sum += to_float(__ldg(bias + at.row));
  float* to = arena + step.of_part(TO, at.part) + at.row;
  switch (step[ENDING]) {
    case LOGITS: {
      const float cap = step.real(CAP);
      logits[at.row] = cap > 0.0f ? cap * tanhf(sum / cap) : sum;
      break;
    }
    case TIMES_OWN: *to = activate(step, sum, fresh(arena + step[OWN] + at.row)); break;
    case ADD_SHARED: *to += sigmoid(fresh(arena + step[OWN])) * sum; break;
    default: *to = sum;
  }
}

template <int FORMAT_>
__device__ __noinline__ void multiply(const Step& step, const Vector& x, float* arena, float* logits) {
  const Packing by(step);
  const int lane = threadIdx.x % 32;
  if (step[ENDING] == GATED) {
    constexpr int PAIRS = rows_at_once<FORMAT_>() / 2;
    const int count = step[ROWS];
    const Matrix gate = by.matrix<FORMAT_>(step, 0), up = by.matrix<FORMAT_>(step, 1);
    const Number *gate_bias = step.at(MATRIX + 3), *up_bias = step.at(MATRIX + 7);
    Share share(count);
#pragma unroll 1
    for (int from = share.from; from < share.to; from += PAIRS) {
      float sums[2 * PAIRS];
      const int last = share.to - 1;
      multiply_rows<FORMAT_>(
          by, [&](int r) { return r % 2 == 0 ? gate : up; }, [&](int r) { return (u64)smaller(from + r / 2, last); }, x.x,
          x.sums, sums);
#pragma unroll
      for (int i = 0; i < PAIRS; i++) {
        const int row = from + i;
        if (lane != i || row > last) continue;
        const float g = sums[2 * i] + (gate_bias ? to_float(__ldg(gate_bias + row)) : 0.0f);
        const float u = sums[2 * i + 1] + (up_bias ? to_float(__ldg(up_bias + row)) : 0.0f);
        arena[step[TO] + row] = activate(step, g, u);
      }
    }
    return;
  }
  int total = 0;
#pragma unroll 1
  for (int part = 0; part < step[PARTS]; part++) total += step.of_part(ROWS, part);
  const Share share(total);
  in_pieces<rows_at_once<FORMAT_>()>(share, [&](auto count, int from) {
    constexpr int COUNT = decltype(count)::VALUE;
    const int last = share.to - 1;
    float sums[COUNT];
    Matrix matrices[COUNT];
    u32 rows[COUNT];
#pragma unroll
    for (int r = 0; r < COUNT; r++) {
      const Row at(step, smaller(from + r, last));
      matrices[r] = by.matrix<FORMAT_>(step, at.part), rows[r] = at.row;
    }
    multiply_rows<FORMAT_>(
        by, [&](int r) { return matrices[r]; }, [&](int r) { return (u64)rows[r]; }, x.x, x.sums, sums);
#pragma unroll
    for (int r = 0; r < COUNT; r++)
      if (lane == r && from + r <= last) end_row(step, Row(step, from + r), sums[r], arena, logits);
  });
}
