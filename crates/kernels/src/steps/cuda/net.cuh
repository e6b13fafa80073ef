// Gated delta nets (`delta/mod.rs` has the rule): a block has some columns of a head's state, which stay in its registers
// between what is read of them and what is written. A state is read where the last token has left it and written to
// another place: others may hold the one before.

constexpr bool HAS_NETS = known(KEY_DIM) != VARIES;
/// Their sizes, or others where there are none. All nets of a model are alike.
constexpr int net_size(Word word, int other) { return HAS_NETS ? known(word) : other; }
constexpr int NET_KEY = net_size(KEY_DIM, 32), NET_VALUE = net_size(VALUE_DIM, 32), TAPS = net_size(WIDTH, 1);
/// Columns of a task, and the channels that it sees: a query, a key, its values.
constexpr int TASK_COLUMNS = net_size(OF_TASK, 32), TASK_CHANNELS = 2 * NET_KEY + TASK_COLUMNS;

/// What sequences remember, of all nets behind each other, in front of this token and behind it.
struct Remembered {
  const float* states;
  const Number* tails;
  float* states_behind;
  Number* tails_behind;
};

/// Where a head's columns are in what the products have left.
struct NetHead {
  int key_head, query, key, value, gates, learned, forgotten;

  __device__ __forceinline__ NetHead(const Step& step, int head) {
    const int keys = step[KEY_HEADS], shared = step[NET_HEADS] / keys, of_key = head % shared;
    key_head = head / shared;
    if (step[BY_KEY_HEAD]) {
      query = key_head * 2 * (NET_KEY + shared * NET_VALUE), key = query + NET_KEY;
      value = key + NET_KEY + of_key * NET_VALUE, gates = value + shared * NET_VALUE;
      learned = key_head * 2 * shared + of_key, forgotten = learned + shared;
    } else {
      query = key_head * NET_KEY, key = query + keys * NET_KEY;
      value = 2 * keys * NET_KEY + head * NET_VALUE, gates = head * NET_VALUE;
      learned = forgotten = head;
    }
  }
};

/// Some columns of a head's state.
struct NetTask {
  int head, column;

  __device__ __forceinline__ explicit NetTask(int task)
      : head(task / (NET_VALUE / TASK_COLUMNS)), column(task % (NET_VALUE / TASK_COLUMNS) * TASK_COLUMNS) {}

  static __device__ __forceinline__ int count(const Step& step) {
    return step[NET_HEADS] * (NET_VALUE / TASK_COLUMNS);
  }
  /// Where its columns begin, behind the beginning of all states.
  __device__ __forceinline__ u64 state(const Step& step) const {
    return (u64)step[STATE] + (u64)head * NET_KEY * NET_VALUE + column;
  }
  /// The channel of the convolution that is the `c`th of the task.
  __device__ __forceinline__ int channel(const Step& step, const NetHead& at, int c) const {
    const int keys = step[KEY_HEADS] * NET_KEY;
    if (c < NET_KEY) return at.key_head * NET_KEY + c;
    if (c < 2 * NET_KEY) return keys + at.key_head * NET_KEY + c - NET_KEY;
    return 2 * keys + head * NET_VALUE + column + c - 2 * NET_KEY;
  }
};

__device__ __forceinline__ int net_channels(const Step& step) {
  return 2 * step[KEY_HEADS] * NET_KEY + step[NET_HEADS] * NET_VALUE;
}

/// Has what a net needs of no other step brought into the second-level cache, while the blocks meet in front of it.
__device__ __noinline__ void foresee_net(const Step& step, const Remembered& remembered) {
  constexpr int PIECES = (TASK_CHANNELS + 15) / 16;
  const int channels = net_channels(step);
#pragma unroll 1
  for (int index = blockIdx.x; index < NetTask::count(step); index += GRID) {
    const NetTask task(index);
    const NetHead at(step, task.head);
    const u64 state = (u64)(remembered.states + task.state(step));
#pragma unroll 1
    for (int row = threadIdx.x; row < NET_KEY; row += THREADS)
      for (int byte = 0; byte < TASK_COLUMNS * 4; byte += 128) prefetch_line(state + (u64)row * NET_VALUE * 4 + byte);
#pragma unroll 1
    for (int i = threadIdx.x; i < PIECES * TAPS; i += THREADS) {
      const int c = i % PIECES * 16, tap = i / PIECES;
      const u64 place = (u64)tap * channels + task.channel(step, at, c);
      prefetch_line((u64)(step.at<float>(FILTER) + place));
      if (tap + 1 < TAPS) prefetch_line((u64)(remembered.tails + step[TAIL] + place));
    }
  }
}

/// Channel `c` of a task behind the convolution; a task that is the first of its key head keeps queries and keys.
__device__ __forceinline__ float convolve(const Step& step, const Remembered& remembered, const float* arena,
                                          const NetTask& task, const NetHead& at, int c) {
  const int channels = net_channels(step), channel = task.channel(step, at, c);
  const int from = c < NET_KEY ? at.query + c : c < 2 * NET_KEY ? at.key + c - NET_KEY : at.value + task.column + c - 2 * NET_KEY;
  const bool keeps = c >= 2 * NET_KEY || (task.column == 0 && task.head % (step[NET_HEADS] / step[KEY_HEADS]) == 0);
  const float* filter = step.at<float>(FILTER) + channel;
  const Number* tail = remembered.tails + step[TAIL] + channel;
  Number* behind = remembered.tails_behind + step[TAIL] + channel;
  const float now = fresh(arena + step[MIXED] + from);
  Number before[TAPS];
  float by[TAPS];
#pragma unroll
  for (int i = 0; i < TAPS; i++) {
    by[i] = __ldg(filter + (u64)i * channels);
    before[i] = i + 1 < TAPS ? __ldg(tail + (u64)i * channels) : to_number(now);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < TAPS; i++) {
    sum = fmaf(by[i], i + 1 < TAPS ? to_float(before[i]) : now, sum);
    if (keeps && i > 0) behind[(u64)(i - 1) * channels] = before[i];
  }
  return sum * sigmoid(sum);
}

__device__ __forceinline__ float4 of_lane(float4 x, int distance) {
  return float4{__shfl_xor_sync(~0u, x.x, distance), __shfl_xor_sync(~0u, x.y, distance),
                __shfl_xor_sync(~0u, x.z, distance), __shfl_xor_sync(~0u, x.w, distance)};
}

/// Leaves what the heads read at `TO`, before their norm.
__device__ __noinline__ void run_net(const Step& step, const Remembered& remembered, float* arena,
                                     unsigned char* shared) {
  // Threads of a row of the columns, rows of all threads, and those of a thread.
  constexpr int LANES = TASK_COLUMNS / 4, AT_ONCE = THREADS / LANES, EACH = (NET_KEY + AT_ONCE - 1) / AT_ONCE;
  float* query = reinterpret_cast<float*>(shared);
  float* key = query + NET_KEY;
  float* values = key + NET_KEY;
  float* found_of = values + TASK_COLUMNS;  // [WARPS][2][TASK_COLUMNS]
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int column = threadIdx.x % LANES * 4, first = threadIdx.x / LANES;
#pragma unroll 1
  for (int index = blockIdx.x; index < NetTask::count(step); index += GRID) {
    const NetTask task(index);
    const NetHead at(step, task.head);
    const u64 place = task.state(step) + column;
    float4 state[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int row = first + i * AT_ONCE;
      state[i] = row < NET_KEY ? four(remembered.states + place, row * NET_VALUE) : float4{};
    }
    const float x = fresh(arena + step[FORGOTTEN] + at.forgotten) + __ldg(step.at<float>(FORGETTING) + task.head);
    const float decay = __ldg(step.at<float>(DECAY) + task.head);
    const float learned = sigmoid(fresh(arena + step[LEARNED] + at.learned));
    const float kept = expf(decay * (fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)))));
    // Behind those who still read for the task before.
    __syncthreads();
#pragma unroll 1
    for (int c = threadIdx.x; c < TASK_CHANNELS; c += THREADS)
      query[c] = convolve(step, remembered, arena, task, at, c);
    __syncthreads();
    float of_query = 0.0f, of_key = 0.0f, of_both = 0.0f;
#pragma unroll
    for (int i = lane; i < NET_KEY; i += 32) {
      of_query = fmaf(query[i], query[i], of_query);
      of_key = fmaf(key[i], key[i], of_key);
      of_both = fmaf(query[i], key[i], of_both);
    }
    const float by_query = rsqrtf(warp_sum(of_query) + 1e-6f) * rsqrtf((float)NET_KEY);
    const float by_key = rsqrtf(warp_sum(of_key) + 1e-6f);
    const float alike = warp_sum(of_both) * by_query * by_key;
    float4 found = {}, read = {};
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int row = smaller(first + i * AT_ONCE, NET_KEY - 1);
      found = found + state[i] * key[row];
      read = read + state[i] * query[row];
    }
#pragma unroll
    for (int d = LANES; d < 32; d *= 2) found = found + of_lane(found, d), read = read + of_lane(read, d);
    float4* sums = reinterpret_cast<float4*>(found_of) + threadIdx.x % LANES;
    if (lane < LANES) sums[2 * warp * LANES] = found, sums[(2 * warp + 1) * LANES] = read;
    __syncthreads();
    found = read = float4{};
#pragma unroll
    for (int w = 0; w < WARPS; w++) found = found + sums[2 * w * LANES], read = read + sums[(2 * w + 1) * LANES];
    const float4 value = *reinterpret_cast<const float4*>(values + column);
    const float4 change = (value + found * (-kept * by_key)) * learned;
    if (first == 0)
      *reinterpret_cast<float4*>(arena + step[TO] + task.head * NET_VALUE + task.column + column) =
          change * alike + read * (kept * by_query);
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int row = first + i * AT_ONCE;
      if (row < NET_KEY)
        *reinterpret_cast<float4*>(remembered.states_behind + place + (u64)row * NET_VALUE) =
            state[i] * kept + change * (key[row] * by_key);
    }
  }
}
