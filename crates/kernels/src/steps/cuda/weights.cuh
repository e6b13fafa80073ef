// Rows of matrices, plain or packed, times a vector in shared memory: a lane has 16 bytes of a row at a time.

/// Columns in 16 bytes.
template <int FORMAT_>
constexpr int lane_columns() {
  return FORMAT_ == FLOATS ? 4 : FORMAT_ == HALVES ? 8 : FORMAT_ == EIGHT_BITS ? 16 : 32;
}
__device__ __forceinline__ int lane_columns_of(int format) {
  return format == FLOATS ? 4 : format == HALVES ? 8 : format == EIGHT_BITS ? 16 : 32;
}
template <int FORMAT_>
constexpr bool is_affine() {
  return FORMAT_ == EIGHT_BITS || FORMAT_ == FOUR_BITS;
}

/// Where four columns of the vector lie, in fours: what the lanes of a warp read together lies together.
__device__ __forceinline__ int place_of(int column, int each) {
  const int chunk = column / (32 * each), rest = column % (32 * each);
  return (chunk * (each / 4) + rest % each / 4) * 32 + rest / each;
}

/// A matrix, or several of one size behind each other.
struct Matrix {
  const u8* words;
  const u8* scales;
  const u8* biases;
  u32 row_bytes;
  /// Of a row.
  u32 groups;
};

/// How the matrices of a step are packed.
struct Packing {
  int columns;
  /// Columns of a group are a power of two.
  int group_bits;
  /// Whether scales and biases are float32.
  bool wide;

  __device__ __forceinline__ Packing(const Step& step)
      : columns(step[COLUMNS]), group_bits(__ffs(step[GROUP]) - 1), wide(step[WIDE_SCALES] != 0) {}

  template <int FORMAT_>
  __device__ __forceinline__ Matrix matrix(const Step& step, int part) const {
    constexpr int EACH = lane_columns<FORMAT_>();
    const int first = MATRIX + 4 * part;
    return Matrix{step.at<u8>(first), step.at<u8>(first + 1), step.at<u8>(first + 2), (u32)(columns / EACH * 16),
                  FORMAT_ >= EIGHT_BITS ? (u32)(columns >> group_bits) : 0};
  }

  __device__ __forceinline__ float scale(const u8* from, u64 at) const {
    return wide ? __ldg(reinterpret_cast<const float*>(from) + at)
                : __uint_as_float((u32)__ldg(reinterpret_cast<const u16*>(from) + at) << 16);
  }
};

/// Sixteen bytes of a row, with the scale and bias of their group.
struct Piece {
  uint4 words;
  float scale, bias;
};

template <int FORMAT_>
__device__ __forceinline__ Piece read_piece(const Matrix& m, const Packing& by, u64 row, int column) {
  constexpr int EACH = lane_columns<FORMAT_>();
  Piece piece = {};
  if (column >= by.columns) return piece;
  piece.words = __ldg(reinterpret_cast<const uint4*>(m.words + row * m.row_bytes + column / EACH * 16));
  if (FORMAT_ >= EIGHT_BITS) {
    const u64 at = row * m.groups + (column >> by.group_bits);
    if (is_affine<FORMAT_>()) {
      piece.scale = by.scale(m.scales, at);
      piece.bias = by.scale(m.biases, at);
    } else {
      const u32 exponent = __ldg(m.scales + at);
      piece.scale = __uint_as_float(exponent == 0 ? 0x00400000u : exponent << 23);
    }
  }
  return piece;
}

__device__ __forceinline__ float times(float4 x, float a, float b, float c, float d, float sum) {
  return fmaf(x.x, a, fmaf(x.y, b, fmaf(x.z, c, fmaf(x.w, d, sum))));
}

/// 16 and a nibble, of the bits 19 to 22. From 16 to 19 it would be 128 and a nibble, one shift less in eight, and what
/// sums round eight times as much.
__device__ __forceinline__ float nibble(u32 word) { return __uint_as_float((word & 0x00780000u) | 0x41800000u); }
/// A byte, of the lowest bits.
__device__ __forceinline__ float byte(u32 word, u32 pick) {
  return __uint_as_float(__byte_perm(word, 0x4b000000u, pick)) - 8388608.0f;
}
/// A float of four bits: its exponent and first bit of the mantissa lie as a float's do, whose exponent is 126 less.
__device__ __forceinline__ float small_float(u32 code) {
  return __uint_as_float((code & 8) << 28 | (code & 7) << 22) * __uint_as_float(253u << 23);
}

/// The products of a piece with the columns of the vector at `x`, and `all`, their sum.
template <int FORMAT_>
__device__ __forceinline__ float piece_product(const Piece& piece, const float4* x, float all) {
  const u32 words[4] = {piece.words.x, piece.words.y, piece.words.z, piece.words.w};
  float sum = 0.0f, other = 0.0f;
  if (FORMAT_ == FLOATS) {
    return times(x[0], __uint_as_float(words[0]), __uint_as_float(words[1]), __uint_as_float(words[2]),
                 __uint_as_float(words[3]), 0.0f);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const u32 w = words[i];
    if (FORMAT_ == HALVES) {
      const float4 two = x[i / 2 * 32];
      const float a = __uint_as_float(w << 16), b = __uint_as_float(w & 0xffff0000u);
      if (i % 2 == 0) {
        sum = fmaf(two.x, a, fmaf(two.y, b, sum));
      } else {
        other = fmaf(two.z, a, fmaf(two.w, b, other));
      }
    } else if (FORMAT_ == EIGHT_BITS) {
      sum = times(x[i * 32], byte(w, 0x7650), byte(w, 0x7651), byte(w, 0x7652), byte(w, 0x7653), sum);
    } else if (FORMAT_ == FOUR_BITS) {
      sum = times(x[2 * i * 32], nibble(w << 19), nibble(w << 15), nibble(w << 11), nibble(w << 7), sum);
      other = times(x[(2 * i + 1) * 32], nibble(w << 3), nibble(w >> 1), nibble(w >> 5), nibble(w >> 9), other);
    } else {
      sum = times(x[2 * i * 32], small_float(w), small_float(w >> 4), small_float(w >> 8), small_float(w >> 12), sum);
      other = times(x[(2 * i + 1) * 32], small_float(w >> 16), small_float(w >> 20), small_float(w >> 24),
                    small_float(w >> 28), other);
    }
  }
  sum += other;
  if (FORMAT_ == EIGHT_BITS) return fmaf(piece.scale, sum, piece.bias * all);
  if (FORMAT_ == FOUR_BITS) return fmaf(piece.scale, sum, fmaf(-16.0f, piece.scale, piece.bias) * all);
  return FORMAT_ == SMALL_FLOATS ? piece.scale * sum : sum;
}

/// Rows that a warp multiplies at a time. A piece of a packed one takes many instructions, and all that are unrolled
/// have to stay in the instruction caches.
template <int FORMAT_>
constexpr int rows_at_once() {
  return FORMAT_ >= EIGHT_BITS ? 2 : 4;
}

/// Chunks of each of so many rows that are on the way at a time. Where it is one, the next one is, too.
template <int FORMAT_>
constexpr int depth(int rows) {
  return FORMAT_ >= EIGHT_BITS ? 1 : 8 / rows;
}

/// The products of ROWS rows with the vector `x`, of which `sums` has the sums of what each lane takes at once: in
/// every lane. `matrix(r)` and `row(r)` say which rows.
template <int FORMAT_, int ROWS_, typename Of, typename Row>
__device__ __forceinline__ void multiply_rows(const Packing& by, Of matrix, Row row, const float* x, const float* sums,
                                              float (&to)[ROWS_]) {
  constexpr int EACH = lane_columns<FORMAT_>(), DEEP = depth<FORMAT_>(ROWS_);
  const int lane = threadIdx.x % 32, chunks = ceil_div(by.columns, 32 * EACH);
  const auto read = [&](int base, Piece (&to)[DEEP][ROWS_]) {
#pragma unroll
    for (int d = 0; d < DEEP; d++)
#pragma unroll
      for (int r = 0; r < ROWS_; r++)
        to[d][r] = read_piece<FORMAT_>(matrix(r), by, row(r), ((base + d) * 32 + lane) * EACH);
  };
  float sum[ROWS_] = {};
  Piece ahead[DEEP][ROWS_];
  if (DEEP == 1) read(0, ahead);
#pragma unroll 1
  for (int base = 0; base < chunks; base += DEEP) {
    Piece pieces[DEEP][ROWS_];
    if (DEEP == 1) {
#pragma unroll
      for (int r = 0; r < ROWS_; r++) pieces[0][r] = ahead[0][r];
      read(base + 1, ahead);
    } else {
      read(base, pieces);
    }
#pragma unroll
    for (int d = 0; d < DEEP; d++) {
      const int chunk = base + d;
      if (chunk >= chunks) break;
      const float4* at = reinterpret_cast<const float4*>(x) + chunk * (EACH / 4) * 32 + lane;
      const float all = is_affine<FORMAT_>() ? sums[chunk * 32 + lane] : 0.0f;
#pragma unroll
      for (int r = 0; r < ROWS_; r++) sum[r] += piece_product<FORMAT_>(pieces[d][r], at, all);
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS_; r++) to[r] = warp_sum(sum[r]);
}
