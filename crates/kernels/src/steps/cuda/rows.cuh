// Rows of tables of embeddings, and what layers have of them as inputs of their own.

/// An element of a packed or plain row.
__device__ __forceinline__ float element(const Step& step, u64 row, int column) {
  const u8* words = step.at<u8>(MATRIX);
  const u64 columns = step[COLUMNS], at = row * columns + column;
  const int format = step[FORMAT];
  if (format == FLOATS) return __ldg(reinterpret_cast<const float*>(words) + at);
  if (format == HALVES) return __uint_as_float((u32)__ldg(reinterpret_cast<const u16*>(words) + at) << 16);
  const u32 byte = __ldg(words + (format == EIGHT_BITS ? at : at / 2));
  const u32 code = format == EIGHT_BITS ? byte : byte >> at % 2 * 4 & 15;
  const u64 group = row * (columns / step[GROUP]) + column / step[GROUP];
  if (format == SMALL_FLOATS) {
    const u32 exponent = __ldg(step.at<u8>(MATRIX + 1) + group);
    return small_float(code) * __uint_as_float(exponent == 0 ? 0x00400000u : exponent << 23);
  }
  const Packing by(step);
  return fmaf((float)code, by.scale(step.at<u8>(MATRIX + 1), group), by.scale(step.at<u8>(MATRIX + 2), group));
}

/// The token's row of a table, shared by all blocks. A token for which there is none has the first.
__device__ __noinline__ void embed(const Step& step, int token, float* arena) {
  const u64 row = token >= 0 && token < step[ROWS] ? token : 0;
#pragma unroll 1
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < step[COLUMNS]; i += GRID * THREADS)
    arena[step[TO] + i] = element(step, row, i) * step.real(SCALE);
}

/// Of each layer: `(norm(projected) + row) * factor`, where the projection, in place, is multiplied by SCALE first. A
/// warp has a layer.
__device__ __noinline__ void make_own_inputs(const Step& step, float* arena) {
  const int width = step[COLUMNS], lane = threadIdx.x % 32;
  const Number* weight = step.at(NORM);
  for (int layer = threadIdx.x / 32 * GRID + blockIdx.x; layer < step[ROWS]; layer += GRID * WARPS) {
    float* x = arena + step[TO] + layer * width;
    const float* row = arena + step[FROM] + layer * width;
    float sum = 0.0f;
#pragma unroll 1
    for (int i = lane; i < width; i += 32) {
      const float y = fresh(x + i) * step.real(SCALE);
      sum = fmaf(y, y, sum);
    }
    const float scale = rsqrtf(warp_sum(sum) / width + step.real(EPS)) * step.real(SCALE);
#pragma unroll 1
    for (int i = lane; i < width; i += 32)
      x[i] = (fresh(x + i) * scale * to_float(__ldg(weight + i)) + fresh(row + i)) * step.real(ALPHA);
  }
}
