// What a product multiplies: made in every block's shared memory, by every block for itself, since that costs a read
// of the second-level cache and no barrier.

/// The vector in shared memory.
struct Vector {
  float* x;
  float* sums;
  float* reduce;
  int each;

  __device__ __forceinline__ void put(int column, float4 four) const {
    reinterpret_cast<float4*>(x)[place_of(column, each)] = four;
  }
};

/// `x / rms(x) * weight`.
template <typename T>
__device__ __forceinline__ void normalize(float4 (&x)[FOURS], const T* weight, float eps, int columns, float* reduce) {
  float sum = 0.0f;
  float4 by[FOURS] = {};
#pragma unroll
  for (int i = 0; i < FOURS; i++) {
    // On the way while the threads wait for each other.
    const int column = (i * THREADS + threadIdx.x) * 4;
    if (column < columns) by[i] = four(weight, column);
    sum = squares(x[i], sum);
  }
  const float scale = rsqrtf(block_sum(sum, reduce) / columns + eps);
#pragma unroll
  for (int i = 0; i < FOURS; i++) x[i] = x[i] * by[i] * scale;
}

/// The residual stream with what is added to it, which block 0 keeps, through a norm.
__device__ __forceinline__ void read_stream(const Step& step, float* arena, const Vector& to) {
  const int columns = step[COLUMNS];
  float4 stream[FOURS] = {}, added[FOURS] = {}, second[FOURS] = {};
#pragma unroll
  for (int i = 0; i < FOURS; i++) {
    const int column = (i * THREADS + threadIdx.x) * 4;
    if (column >= columns) continue;
    stream[i] = fresh4(arena + step[FROM] + column);
    if (step[ADDEND] >= 0) added[i] = fresh4(arena + step[ADDEND] + column);
    if (step[SECOND] >= 0) second[i] = fresh4(arena + step[SECOND] + column);
  }
  float* reduce = to.reduce;
  if (step.at(ADDEND_NORM)) normalize(added, step.at(ADDEND_NORM), step.real(ADDEND_EPS), columns, reduce);
  if (step[SECOND] >= 0) {
    normalize(second, step.at(SECOND_NORM), step.real(SECOND_EPS), columns, reduce + 32);
#pragma unroll
    for (int i = 0; i < FOURS; i++) added[i] = added[i] + second[i];
    if (step.at(SUM_NORM)) normalize(added, step.at(SUM_NORM), step.real(SUM_EPS), columns, reduce + 64);
  }
#pragma unroll
  for (int i = 0; i < FOURS; i++) {
    stream[i] = (stream[i] + added[i]) * step.real(SCALE);
    const int column = (i * THREADS + threadIdx.x) * 4;
    if (step[KEEP] >= 0 && blockIdx.x == 0 && column < columns)
      *reinterpret_cast<float4*>(arena + step[KEEP] + column) = stream[i];
  }
  if (step[NORMED]) {
    if (step[WIDE_NORM]) {
      normalize(stream, step.at<float>(NORM), step.real(EPS), columns, reduce + 96);
    } else {
      normalize(stream, step.at(NORM), step.real(EPS), columns, reduce + 96);
    }
  }
#pragma unroll
  for (int i = 0; i < FOURS; i++) {
    const int column = (i * THREADS + threadIdx.x) * 4;
    if (column < columns) to.put(column, stream[i]);
  }
}

/// Several vectors that other steps have left, each from a whole chunk on.
__device__ __forceinline__ void copy_vectors(const Step& step, const float* arena, int count, const Vector& to) {
  const int columns = step[COLUMNS], whole = ceil_div(columns, 32 * to.each) * 32 * to.each;
#pragma unroll 1
  for (int i = threadIdx.x * 4; i < count * columns; i += THREADS * 4) {
    const int vector = i / columns, column = i % columns;
    to.put(vector * whole + column, fresh4(arena + step[FROM] + i));
  }
}

/// What the heads of a gated delta net have read, each through its norm and times its gates: a warp has a head.
__device__ __forceinline__ void gate_reads(const Step& step, const float* arena, const Vector& to) {
  constexpr int DEEP = 2;
  const int lane = threadIdx.x % 32, heads = step[NET_HEADS];
  const bool is_there = lane * 4 < NET_VALUE;
  const float4 weight = is_there ? four(step.at<float>(NORM), lane * 4) : float4{};
#pragma unroll 1
  for (int first = threadIdx.x / 32; first < heads; first += DEEP * WARPS) {
    float4 x[DEEP] = {}, gate[DEEP] = {};
#pragma unroll
    for (int i = 0; i < DEEP; i++) {
      const int head = first + i * WARPS;
      if (!is_there || head >= heads) continue;
      x[i] = fresh4(arena + step[FROM] + head * NET_VALUE + lane * 4);
      gate[i] = fresh4(arena + step[READ_GATES] + NetHead(step, head).gates + lane * 4);
    }
#pragma unroll
    for (int i = 0; i < DEEP; i++) {
      const int head = first + i * WARPS;
      const float scale = rsqrtf(warp_sum(squares(x[i], 0.0f)) / NET_VALUE + step.real(EPS));
      const float4 g = gate[i];
      const float4 opened = {g.x * sigmoid(g.x), g.y * sigmoid(g.y), g.z * sigmoid(g.z), g.w * sigmoid(g.w)};
      if (is_there && head < heads) to.put(head * NET_VALUE + lane * 4, x[i] * weight * opened * scale);
    }
  }
}

/// Makes the input of a step. Begins and ends synchronized.
__device__ __noinline__ void make_input(const Step& step, float* arena, const Vector& to) {
  const int columns = step[COLUMNS], chunk = 32 * to.each, whole = ceil_div(columns, chunk) * chunk;
  const int count = step[OP] == EXPERTS_DOWN ? step[TOP] : 1;
  // Zeros behind the columns, since numbers there that are none would spoil sums.
#pragma unroll 1
  for (int i = threadIdx.x * 4; i < count * (whole - columns); i += THREADS * 4) {
    const int vector = i / (whole - columns);
    to.put(vector * whole + columns + i % (whole - columns), float4{});
  }
  if (step[INPUT] == STREAM) {
    read_stream(step, arena, to);
  } else if (HAS_NETS && step[INPUT] == READS) {
    gate_reads(step, arena, to);
  } else {
    copy_vectors(step, arena, count, to);
  }
  __syncthreads();
  if (step[FORMAT] != EIGHT_BITS && step[FORMAT] != FOUR_BITS) return;
#pragma unroll 1
  for (int i = threadIdx.x; i < count * whole / to.each; i += THREADS) {
    const float4* at = reinterpret_cast<const float4*>(to.x) + i / 32 * (to.each / 4) * 32 + i % 32;
    float sum = 0.0f;
#pragma unroll 1
    for (int j = 0; j < to.each / 4; j++) {
      const float4 x = at[j * 32];
      sum += (x.x + x.y) + (x.z + x.w);
    }
    to.sums[i] = sum;
  }
  __syncthreads();
}
