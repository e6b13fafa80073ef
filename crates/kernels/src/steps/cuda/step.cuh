// A step of the list, as `words.rs` names its words. The host defines
//
//   GRID WARPS SMEM   blocks (one a multiprocessor), warps a block, bytes of shared memory
//   QUERIES_A_KEY     query heads of a key head, at the most
//   WIDE              where norms, biases and caches are float32; else they are bfloat16
//   FOURS             fours of the residual stream that a thread has
//   ABSENT            a bit for each address that no step has
//   known(word)       what a word is in all steps that read it, or VARIES
//
// What is known, and what there is not, is no code: this kernel is long, and goes through all of it at each layer, so
// its instructions have to stay in the multiprocessors' caches.

#define INFINITY_ __uint_as_float(0x7f800000u)

typedef unsigned char u8;

/// A number that is known when the kernel is compiled.
template <int VALUE_>
struct Constant {
  static constexpr int VALUE = VALUE_;
};

#ifdef WIDE
typedef float Number;
__device__ __forceinline__ float to_float(Number x) { return x; }
__device__ __forceinline__ Number to_number(float x) { return x; }
#else
typedef u16 Number;
__device__ __forceinline__ float to_float(Number x) { return __uint_as_float((u32)x << 16); }
__device__ __forceinline__ Number to_number(float x) { return to_bf16(x); }
#endif

/// A step in shared memory.
struct Step {
  int words[WORDS];
  u64 addresses[ADDRESSES];

  /// For a word that is named where the kernel is compiled: what is known of it costs nothing.
  __device__ __forceinline__ int operator[](Word word) const {
    const int is = known(word);
    return is == VARIES ? words[word] : is;
  }
  __device__ __forceinline__ float real(Word word) const { return __uint_as_float((u32)(*this)[word]); }
  /// Of part `part`, where `word` is that of the first.
  __device__ __forceinline__ int of_part(Word word, int part) const { return words[word + part]; }
  /// Null where there is nothing.
  template <typename T = Number>
  __device__ __forceinline__ const T* at(int address) const {
    return ABSENT >> address & 1 ? nullptr : reinterpret_cast<const T*>(addresses[address]);
  }
};

/// A word of a step on its way from the list into shared memory.
struct Coming {
  int word = 0;
  u64 address = 0;

  /// This thread's word of step `index`.
  __device__ __forceinline__ void ask(const int* list, const u64* table, int index) {
    const int i = threadIdx.x;
    if (i >= WORDS + ADDRESSES) return;
    word = __ldg(list + index * (WORDS + ADDRESSES) + i);
    if (i >= WORDS) address = word < 0 ? 0 : __ldg(table + word);
  }

  __device__ __forceinline__ void put(Step& step) const {
    const int i = threadIdx.x;
    if (i < WORDS) {
      step.words[i] = word;
    } else if (i < WORDS + ADDRESSES) {
      step.addresses[i - WORDS] = address;
    }
  }
};

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }
__device__ __forceinline__ int larger(int a, int b) { return a > b ? a : b; }
__device__ __forceinline__ int ceil_div(int a, int b) { return (a + b - 1) / b; }

__device__ __forceinline__ float squares(float4 x, float sum) {
  return fmaf(x.x, x.x, fmaf(x.y, x.y, fmaf(x.z, x.z, fmaf(x.w, x.w, sum))));
}
__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return float4{a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}
__device__ __forceinline__ float4 operator*(float4 a, float4 b) {
  return float4{a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}
__device__ __forceinline__ float4 operator*(float4 a, float b) { return float4{a.x * b, a.y * b, a.z * b, a.w * b}; }

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(~0u, x, d);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) x = fmaxf(x, __shfl_xor_sync(~0u, x, d));
  return x;
}

/// The sum of `x` over the block, the same in every thread. `reduce` has WARPS floats, which nobody else uses
/// until the next `__syncthreads`.
__device__ __forceinline__ float block_sum(float x, float* reduce) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) reduce[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int w = 0; w < WARPS; w++) sum += reduce[w];
  return sum;
}

/// What other blocks of this launch have written: never from the first-level cache.
__device__ __forceinline__ float4 fresh4(const float* p) { return __ldcg(reinterpret_cast<const float4*>(p)); }
__device__ __forceinline__ float fresh(const float* p) { return __ldcg(p); }

/// Four numbers of a vector of weights; ones where there is none.
__device__ __forceinline__ float4 four(const float* p, int at) {
  if (p == nullptr) return float4{1.0f, 1.0f, 1.0f, 1.0f};
  return __ldg(reinterpret_cast<const float4*>(p + at));
}
__device__ __forceinline__ float4 four(const u16* p, int at) {
  if (p == nullptr) return float4{1.0f, 1.0f, 1.0f, 1.0f};
  const uint2 x = __ldg(reinterpret_cast<const uint2*>(p + at));
  return float4{__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u), __uint_as_float(x.y << 16),
                __uint_as_float(x.y & 0xffff0000u)};
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/// What a gate and its partner make.
__device__ __forceinline__ float activate(const Step& step, float gate, float up) {
  const int kind = step[ACTIVATION];
  if (kind == SILU) return gate * sigmoid(gate) * up;
  if (kind == GELU) {
    const float inner = 0.7978845608028654f * (gate + 0.044715f * gate * gate * gate);
    return 0.5f * gate * (1.0f + tanhf(inner)) * up;
  }
  const float limit = step.real(LIMIT);
  gate = fminf(gate, limit);
  up = fminf(fmaxf(up, -limit), limit);
  return (up + 1.0f) * gate * sigmoid(step.real(ALPHA) * gate);
}
