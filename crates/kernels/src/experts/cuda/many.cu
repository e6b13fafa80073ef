// The products of many pairs, sorted by expert, on the matrix units. With INNER activation(gate x) * up x, of the
// token of each pair; else down times what is inside, each row to the place of its pair.
//
// A block multiplies a tile of up to ROWS pairs with 128 rows of an expert's matrices (with INNER 64 of the gate and
// 64 of up). Its eight warps have 32 pairs and 64 of those rows each; those without a pair only help to load.
// DEPTH numbers of each row are a stage in shared memory, in pieces of 16 bytes whose places are turned so that
// eight rows lie in different banks. Packed rows are read into registers two stages ahead and unpacked one ahead.
//
// Compiled behind number.cuh, activation.cuh, tiles.cuh, fragments.cuh and weights.cuh with TOP and ROWS (128), and with
// BIASES where gate and up have one (that of down is added to the sums).

constexpr int THREADS = 256, DEPTH = 64, STAGES = 3, COLUMNS = 128;
constexpr int LINE = DEPTH * 2, STAGE = ROWS * LINE;
#ifdef INNER
constexpr int WIDE = COLUMNS / 2;
#else
constexpr int WIDE = COLUMNS;
#endif

/// Where a piece of a row lies in a stage.
__device__ __forceinline__ u32 place(int row, int piece) { return row * LINE + (piece ^ (row & 7)) * 16; }

#ifdef DENSE
/// A thread copies a piece of four rows.
struct Weights {
  const Number* from[COLUMNS / 32];
  int there;

  /// The `i`th of `first` and `second` in turn; `column` is the first one's of the block, of `width`.
  __device__ __forceinline__ void open(const Stack& first, const Stack& second, u64 matrix, int column, int width) {
    there = 0;
#pragma unroll
    for (int i = 0; i < COLUMNS / 32; i++) {
#ifdef INNER
      const Stack& stack = i % 2 ? second : first;
      const int at = column + i / 2 * 32 + threadIdx.x / 8;
#else
      const Stack& stack = first;
      const int at = column + i * 32 + threadIdx.x / 8;
#endif
      there |= (at < width) << i;
      from[i] = (const Number*)stack.words + (matrix * width + min(at, width - 1)) * stack.eights * 8;
    }
  }

  __device__ __forceinline__ void fetch(int stage, u32 to, int depth) const {
    const int piece = threadIdx.x % 8, k = stage * DEPTH + piece * 8;
#pragma unroll
    for (int i = 0; i < COLUMNS / 32; i++) {
      const bool is = k < depth && (there >> i & 1);
      copy16(to + place(i * 32 + threadIdx.x / 8, piece), (u64)(from[i] + (is ? k : 0)), is ? 16 : 0);
    }
  }
};
#else
/// A thread unpacks half a stage of one row.
struct Weights {
  const u8* words;
  const Scale* scales;
  uint4 held[BITS / 4];
  Scale scale;
#ifndef MXFP4
  const Scale* biases;
  Scale bias;
#endif
  bool is;

  __device__ __forceinline__ void open(const Stack& first, const Stack& second, u64 matrix, int column, int width) {
    const int row = threadIdx.x / 2;
#ifdef INNER
    const Stack& stack = row % 64 < 32 ? first : second;
    const int at = column + row / 64 * 32 + row % 32;
#else
    const Stack& stack = first;
    const int at = column + row;
#endif
    is = at < width;
    const u64 eights = (matrix * width + min(at, width - 1)) * stack.eights;
    words = stack.words + eights * BITS;
    scales = stack.scales + eights / (GROUP / 8);
#ifndef MXFP4
    biases = stack.biases + eights / (GROUP / 8);
#endif
  }

  /// Begins to read a stage into registers.
  __device__ __forceinline__ void read(int stage, int depth) {
    const int k = stage * DEPTH + threadIdx.x % 2 * 32;
    const bool there = is && k < depth;
#pragma unroll
    for (int i = 0; i < BITS / 4; i++) {
      held[i] = there ? ((const uint4*)(words + k / 8 * BITS))[i] : make_uint4(0, 0, 0, 0);
    }
    scale = there ? scales[k / GROUP] : 0;
#ifndef MXFP4
    bias = there ? biases[k / GROUP] : 0;
#endif
  }

  /// Unpacks what was read.
  __device__ __forceinline__ void unpack(unsigned char* to) const {
    const int row = threadIdx.x / 2, piece = threadIdx.x % 2 * 4;
    const u32 w[BITS] = {
        held[0].x, held[0].y, held[0].z, held[0].w,
#if BITS == 8
        held[1].x, held[1].y, held[1].z, held[1].w,
#endif
    };
    const float s = scale_of(scale);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float v[8];
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const int at = i * 8 + j;
        const float q = coded((w[at * BITS / 32] >> at * BITS % 32) & ((1u << BITS) - 1));
#ifdef MXFP4
        v[j] = s * q;
#else
        v[j] = fmaf(s, q, to_float(bias));
#endif
      }
      *(uint4*)(to + place(row, piece + i)) =
          make_uint4(to_two(v[0], v[1]), to_two(v[2], v[3]), to_two(v[4], v[5]), to_two(v[6], v[7]));
    }
  }
};
#endif

/// `x` has rows of `depth` numbers, `y` of `width`. blockIdx.x counts columns, blockIdx.y tiles.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    many(const Number* x, const int* order, const int* tiles, const u8* words, const Scale* scales,
         const Scale* biases,
#ifdef INNER
         const u8* up_words, const Scale* up_scales, const Scale* up_biases,
#endif
#ifdef BIASES
         const Number* bias, const Number* up_bias,
#endif
         Number* y, int depth, int width) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int* tile = tiles + blockIdx.y * 3;
  const int first = tile[1], count = tile[2], column = blockIdx.x * WIDE;
  if (count == 0) return;
  const u32 rows_at = shared_address(shared), weights_at = rows_at + STAGES * STAGE;
  const Stack stack = {words, scales, biases, depth / 8};
#ifdef INNER
  const Stack second = {up_words, up_scales, up_biases, depth / 8};
#else
  const Stack second = stack;
#endif
  Weights weights;
  weights.open(stack, second, tile[0], column, width);

#ifdef INNER
  const Number* from[ROWS / 32];
#pragma unroll
  for (int i = 0; i < ROWS / 32; i++) {
    from[i] = x + (u64)(order[first + min(i * 32 + (int)threadIdx.x / 8, count - 1)] / TOP) * depth;
  }
  auto row_of = [&](int i) { return from[i]; };
#else
  const Number* from = x + (u64)(first + threadIdx.x / 8) * depth;
  auto row_of = [&](int i) { return from + i * 32 * depth; };
#endif
  const int stages = (depth + DEPTH - 1) / DEPTH;
  auto fetch = [&](int stage) {
    const int piece = threadIdx.x % 8, k = stage * DEPTH + piece * 8, slot = stage % STAGES;
    if (stage < stages) {
#pragma unroll
      for (int i = 0; i < ROWS / 32; i++) {
        const int row = i * 32 + threadIdx.x / 8;
        const bool is = k < depth && row < count;
        copy16(rows_at + slot * STAGE + place(row, piece), (u64)(is ? row_of(i) + k : x), is ? 16 : 0);
      }
#ifdef DENSE
      weights.fetch(stage, weights_at + slot * STAGE, depth);
#endif
    }
    copies_commit();
  };
  fetch(0);
  fetch(1);
#ifndef DENSE
  unsigned char* unpacked = shared + STAGES * STAGE;
  weights.read(0, depth);
  weights.unpack(unpacked);
  weights.read(1, depth);
#endif

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int own = warp / 2 * 32, half_at = warp % 2;
  float sum[2][8][4] = {};
#pragma unroll 1
  for (int stage = 0; stage < stages; stage++) {
    copies_wait<1>();
    __syncthreads();
    fetch(stage + 2);
#ifndef DENSE
    weights.unpack(unpacked + (stage + 1) % STAGES * STAGE);
    weights.read(stage + 2, depth);
#endif
    if (own >= count) continue;
    const u32 a_at = rows_at + stage % STAGES * STAGE + (own + lane % 16) * LINE;
    const u32 b_at = weights_at + stage % STAGES * STAGE + (half_at * 64 + lane / 16 * 8 + lane % 8) * LINE;
#pragma unroll
    for (int step = 0; step < DEPTH / 16; step++) {
      uint4 a[2];
#pragma unroll
      for (int p = 0; p < 2; p++) {
        a[p] = load_matrices(a_at + p * 16 * LINE + ((step * 2 + lane / 16) ^ (lane & 7)) * 16);
      }
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const uint4 b = load_matrices(b_at + j * 16 * LINE + ((step * 2 + lane / 8 % 2) ^ (lane & 7)) * 16);
#pragma unroll
        for (int p = 0; p < 2; p++) {
          multiply(sum[p][2 * j], a[p], b.x, b.y);
          multiply(sum[p][2 * j + 1], a[p], b.z, b.w);
        }
      }
    }
  }

#ifdef BIASES
  const u64 biases_at = (u64)tile[0] * width;
#endif
#pragma unroll
  for (int p = 0; p < 2; p++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = own + p * 16 + half * 8 + lane / 4;
      if (row >= count) continue;
#ifdef INNER
      Number* to = y + (u64)(first + row) * width;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int at = column + half_at * 32 + j * 8 + lane % 4 * 2;
        float* gate = sum[p][j] + half * 2;
        float* up = sum[p][j + 4] + half * 2;
        if (at >= width) continue;
#ifdef BIASES
#pragma unroll
        for (int i = 0; i < 2; i++) {
          gate[i] += to_float(bias[biases_at + at + i]), up[i] += to_float(up_bias[biases_at + at + i]);
        }
#endif
        *(u32*)(to + at) = to_two(gated_by(gate[0], up[0]), gated_by(gate[1], up[1]));
      }
#else
      Number* to = y + (u64)order[first + row] * width;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const int at = column + half_at * 64 + j * 8 + lane % 4 * 2;
        if (at < width) *(u32*)(to + at) = to_two(sum[p][j][half * 2], sum[p][j][half * 2 + 1]);
      }
#endif
    }
  }
}
