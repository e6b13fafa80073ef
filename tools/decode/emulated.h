// The kernel on a processor: enough of CUDA for `crates/kernels/src/decode/cuda` to compile as C++ and
// to run to the end with the right results, for machines without a GPU. `emulator.py` puts this header
// in the place of `instructions.cuh` and `tiles.cuh`, and so do the tests of `crates/kernels`.
//
// A thread of the kernel is a fiber, which runs until it must wait for others; the fibers of a warp meet
// where its lanes exchange values, those of a block at barriers. The order in which blocks and warps run
// is drawn at random. Asynchronous copies are as slow as they may be: what a thread has not waited for
// has not arrived, and its place holds 0xff bytes, which are not a number, from the moment it was asked
// for. So a tile that is used too early, or whose place is given away too early, shows in the result.

// A jump to another fiber is one to another stack, which libraries that are built to check jumps refuse.
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

/// Of what is seen outside the library. The rest is to be compiled as hidden: libraries would share variables.
#define EMULATED_ENTRY extern "C" __attribute__((visibility("default")))

#define __device__
#define __host__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n)

typedef uint32_t u32;
typedef unsigned long long u64;
typedef uint16_t u16;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

namespace emulated {

constexpr int STACK_BYTES = 256 << 10;

/// Where `count` fibers wait for each other.
struct Meeting {
    u32 arrived = 0, held = 0;
};

struct Warp {
    Meeting meeting;
    /// What the lanes show each other, in turn, so that a lane may be one meeting ahead.
    u64 shown[2][32][6];
};

struct Block {
    u32 x;
    unsigned char* shared;
    Meeting meeting;
    std::vector<Warp> warps;
    std::vector<u64> cells;  // its variables outside the array
};

struct Copy {
    unsigned char* to;
    u64 from;
    int size, bytes;
};

struct Fiber {
    /// Where it begins, and where it goes on: a jump costs no call of the system, as contexts do.
    ucontext_t context;
    jmp_buf at;
    bool begun = false;
    std::unique_ptr<char[]> stack;
    Block* block;
    Warp* warp;
    u32 thread, lane;
    bool done = false;
    /// Until `*wait_for` is another number, there is nothing to do.
    const u32* wait_for = nullptr;
    u32 wait_past = 0;
    u32 turn = 0;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
};

inline Fiber* now;
inline jmp_buf scheduler;

inline void give_way() {
    if (_setjmp(now->at) == 0) _longjmp(scheduler, 1);
}

/// Runs it until it gives way or is done.
__attribute__((noinline)) inline void resume(Fiber& fiber) {
    now = &fiber;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.at, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

inline void meet(Meeting& meeting, u32 count) {
    if (++meeting.arrived == count) {
        meeting.arrived = 0;
        meeting.held++;
        return;
    }
    now->wait_for = &meeting.held;
    now->wait_past = meeting.held;
    give_way();
    now->wait_for = nullptr;
}

/// Shows `words` to the other lanes; returns what each of them shows.
template <typename... Words>
inline const u64 (*show(Words... words))[6] {
    auto& shown = now->warp->shown[now->turn++ % 2];
    int i = 0;
    ((shown[now->lane][i++] = (u64)words), ...);
    meet(now->warp->meeting, 32);
    return shown;
}

template <typename To, typename From>
inline To bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

struct Index {
    struct {
        operator u32() const { return now->thread; }
    } x;
};
struct BlockIndex {
    struct {
        operator u32() const { return now->block->x; }
    } x;
};
inline Index thread_index;
inline BlockIndex block_index;

/// The `i`th variable that the kernel declares in shared memory.
inline u32& cell(int i) { return *reinterpret_cast<u32*>(&now->block->cells[i]); }
inline unsigned char* array() { return now->block->shared; }

inline void copy(u32 to, u64 from, int size, int bytes) {
    unsigned char* place = now->block->shared + to;
    std::memset(place, 0xff, size);
    now->open.push_back({place, from, size, bytes});
}

/// Runs `body` in every thread of `grid` blocks until all are done; false if those that are left wait for each
/// other.
template <typename Body>
bool launch(int grid, int warps, int shared_bytes, u64 seed, Body body) {
    static Body* running;
    running = &body;
    std::mt19937_64 random(seed);
    std::vector<Block> blocks(grid);
    std::vector<std::unique_ptr<unsigned char[]>> memories;
    std::vector<Fiber> fibers(grid * warps * 32);
    for (int b = 0; b < grid; b++) {
        Block& block = blocks[b];
        memories.emplace_back(new unsigned char[shared_bytes + 128]);
        std::memset(memories[b].get(), 0xff, shared_bytes + 128);
        block.x = b;
        block.shared = memories[b].get() + (128 - (u64)memories[b].get() % 128);
        block.warps.resize(warps);
        block.cells.resize(16, ~0ull);
        for (int t = 0; t < warps * 32; t++) {
            Fiber& fiber = fibers[b * warps * 32 + t];
            fiber.block = &block, fiber.warp = &block.warps[t / 32], fiber.thread = t, fiber.lane = t % 32;
            fiber.stack.reset(new char[STACK_BYTES]);
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = STACK_BYTES;
            makecontext(&fiber.context, static_cast<void (*)()>([] {
                            (*running)();
                            now->done = true;
                            _longjmp(scheduler, 1);
                        }), 0);
        }
    }
    std::vector<int> order(grid * warps);
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    for (size_t left = fibers.size(); left != 0;) {
        std::shuffle(order.begin(), order.end(), random);
        bool moved = false;
        for (int warp : order)
            for (int lane = 0; lane < 32; lane++) {
                Fiber& fiber = fibers[warp * 32 + lane];
                if (fiber.done || (fiber.wait_for != nullptr && *fiber.wait_for == fiber.wait_past)) continue;
                resume(fiber);
                moved = true;
                left -= fiber.done;
            }
        if (!moved) {
            std::fprintf(stderr, "emulated: every thread waits for another\n");
            return false;
        }
    }
    return true;
}

template <typename T>
T argument(u64 word) {
    if constexpr (std::is_pointer_v<T>) {
        return reinterpret_cast<T>(word);
    } else {
        return static_cast<T>(word);
    }
}

template <typename... Parameters, size_t... I>
bool launch_with(int grid, int warps, int shared_bytes, u64 seed, void (*kernel)(Parameters...), const u64* arguments,
                 std::index_sequence<I...>) {
    return launch(grid, warps, shared_bytes, seed, [=] { kernel(argument<Parameters>(arguments[I])...); });
}

/// The same of a kernel, whose arguments are a word each: an address or a number.
template <typename... Parameters>
bool launch_kernel(int grid, int warps, int shared_bytes, u64 seed, void (*kernel)(Parameters...), const u64* arguments) {
    return launch_with(grid, warps, shared_bytes, seed, kernel, arguments, std::index_sequence_for<Parameters...>());
}

}  // namespace emulated

#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index

inline void __syncthreads() { emulated::meet(emulated::now->block->meeting, THREADS); }
inline void __syncwarp() { emulated::show(); }
template <typename T>
T __shfl_sync(u32, T x, int lane) {
    typedef std::conditional_t<sizeof(T) == 4, u32, u64> Bits;
    return emulated::bits<T>((Bits)emulated::show(emulated::bits<Bits>(x))[lane][0]);
}
template <typename T>
T __shfl_xor_sync(u32 lanes, T x, int mask) {
    return __shfl_sync(lanes, x, emulated::now->lane ^ mask);
}
template <typename T>
T __shfl_up_sync(u32 lanes, T x, u32 by) {
    const u32 lane = emulated::now->lane;
    return __shfl_sync(lanes, x, lane < by ? lane : lane - by);
}
inline int __any_sync(u32, bool x) {
    auto shown = emulated::show(x);
    for (int lane = 0; lane < 32; lane++)
        if (shown[lane][0]) return 1;
    return 0;
}
inline u32 __ballot_sync(u32, bool x) {
    auto shown = emulated::show(x);
    u32 votes = 0;
    for (int lane = 0; lane < 32; lane++) votes |= (u32)(shown[lane][0] != 0) << lane;
    return votes;
}
inline u32 __reduce_max_sync(u32, u32 x) {
    auto shown = emulated::show(x);
    for (int lane = 0; lane < 32; lane++) x = std::max(x, (u32)shown[lane][0]);
    return x;
}
inline u32 __reduce_min_sync(u32, u32 x) {
    auto shown = emulated::show(x);
    for (int lane = 0; lane < 32; lane++) x = std::min(x, (u32)shown[lane][0]);
    return x;
}
inline int __ffs(u32 x) { return __builtin_ffs((int)x); }
template <typename T>
T __ldg(const T* p) { return *p; }
template <typename T>
T __ldcg(const T* p) { return *p; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline u32 __float2uint_rz(float x) { return (u32)x; }
inline u64 __float2ull_rn(float x) { return (u64)std::nearbyint(x); }
inline float __uint_as_float(u32 x) { return emulated::bits<float>(x); }
inline u32 __float_as_uint(float x) { return emulated::bits<u32>(x); }
inline u32 __byte_perm(u32 x, u32 y, u32 pick) {
    u64 both = (u64)y << 32 | x;
    u32 z = 0;
    for (int i = 0; i < 4; i++) z |= (u32)(both >> (pick >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return z;
}
inline u32 __funnelshift_r(u32 low, u32 high, u32 by) { return (u32)(((u64)high << 32 | low) >> by % 32); }
template <typename T>
T atomicAdd(T* to, std::type_identity_t<T> x) { return (*to += x) - x; }
inline u32 atomicMax(u32* to, u32 x) { return std::exchange(*to, std::max(*to, x)); }
inline void __threadfence() {}
inline u32 atomicExch(u32* to, u32 x) { return std::exchange(*to, x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline void sincospif(float x, float* sine, float* cosine) {
    *sine = (float)std::sin(M_PI * x), *cosine = (float)std::cos(M_PI * x);
}

// The instructions.

inline u32 shared_address(const void* p) { return (u32)((const unsigned char*)p - emulated::now->block->shared); }
inline void copy16(u32 to, u64 from, int bytes) { emulated::copy(to, from, 16, bytes); }
inline void copy4(u32 to, u64 from, int bytes) { emulated::copy(to, from, 4, bytes); }
inline void copies_commit() {
    emulated::now->groups.push_back(std::move(emulated::now->open));
    emulated::now->open.clear();
}
template <int PENDING>
void copies_wait() {
    auto& groups = emulated::now->groups;
    for (; groups.size() > PENDING; groups.pop_front())
        for (const emulated::Copy& copy : groups.front()) {
            std::memset(copy.to, 0, copy.size);
            if (copy.bytes != 0) std::memcpy(copy.to, (const void*)copy.from, copy.bytes);
        }
}

inline uint4 load_matrices(u32 row) {
    auto shown = emulated::show(row);
    const u32 lane = emulated::now->lane;
    u32 words[4];
    for (int i = 0; i < 4; i++)
        std::memcpy(&words[i], emulated::now->block->shared + shown[8 * i + lane / 4][0] + lane % 4 * 4, 4);
    return {words[0], words[1], words[2], words[3]};
}

/// Of the fragments that PTX describes under mma.m16n8k16.
inline void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    auto shown = emulated::show(a0, a1, a2, a3, b0, b1);
    const u32 lane = emulated::now->lane;
    auto element = [](u64 word, int k) { return __uint_as_float((u32)(k % 2 ? word & 0xffff0000u : word << 16)); };
    for (int i = 0; i < 4; i++) {
        int row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const u64* a = shown[row * 4 + k % 8 / 2];
            const u64* b = shown[column * 4 + k % 8 / 2];
            c[i] += element(a[i / 2 + k / 8 * 2], k) * element(b[4 + k / 8], k);
        }
    }
}

inline u16 to_bf16(float x) {
    u32 y = emulated::bits<u32>(x);
    return (u16)(x != x ? 0x7fff : (y + 0x7fff + (y >> 16 & 1)) >> 16);
}
inline u32 to_bf16x2(float low, float high) { return to_bf16(low) | (u32)to_bf16(high) << 16; }
inline u32 masked_or(u32 word, u32 mask, u32 more) { return (word & mask) | more; }
inline u32 nibbles(u32 word) { return (word & 0x000f000fu) | 0x43004300u; }
inline float exp2_fast(float x) { return std::exp2(x); }
inline float __fdividef(float a, float b) { return a / b; }

inline void add_release(u32* to) { ++*to; }
inline u32 read_acquire(const u32* from) {
    emulated::give_way();
    return *from;
}
inline u32 add_acquire_release(u32* to) { return (*to)++; }
inline void prefetch_bytes(u64, int) {}
inline void prefetch_line(u64) {}
