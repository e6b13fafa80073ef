"""Compares attention's CUDA kernel with float64 on a machine without a GPU. Needs g++ and numpy.

    python tools/attention/check.py

The kernel is compiled as C++ behind `tools/decode/emulated.h`: every thread is a fiber, and an asynchronous copy
has not arrived before it is waited for. What is behind the visible keys is not a number."""

import ctypes
import itertools
import math
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/decode"))

from emulator import HEADER, compiled, with_array  # noqa: E402

KERNEL = ROOT / "crates/kernels/src/attention/attend.cu"
WARPS = 4
# Elements of a head, sixteens of a warp's queries, and keys of a tile, as `Variant` has them.
VARIANTS = [(16, 1, 64), (64, 1, 64), (80, 1, 64), (128, 1, 64), (144, 1, 32), (256, 1, 32), (64, 2, 48), (128, 2, 48)]
# What scores are squashed to; 0 if they are not. And whether a score of each head joins them that has no value.
SCORES = [(0, False), (2.0, False), (0, True)]
# Query heads, key heads, queries, visible keys, capacity, whether causal, and the window.
CASES = [
    (2, 1, 37, 37, 300, True, 0), (2, 2, 1, 263, 305, True, 0), (1, 1, 1, 263, 305, True, 50),
    (2, 1, 70, 262, 305, True, 9), (1, 1, 65, 300, 301, True, 50), (1, 1, 5, 268, 305, True, 0),
    (1, 1, 70, 72, 109, False, 0), (3, 1, 130, 400, 400, True, 200), (3, 1, 300, 300, 305, False, 17),
    (1, 1, 150, 150, 150, False, 60), (2, 1, 90, 90, 101, False, 2**31 - 1),
]

# In the place of tiles.cuh and fragments.cuh, beside what emulated.h has.
INSTRUCTIONS = """
#undef THREADS
#undef blockIdx
using std::max, std::min;
typedef u16 Number;
struct Place { int x, y; };
static Place gridDim;
inline Place place() {
    const int block = emulated::block_index.x;
    return {block % gridDim.x, block / gridDim.x};
}
#define blockIdx place()
inline void multiply(float (&c)[4], uint4 a, u32 b0, u32 b1) { multiply(c, a.x, a.y, a.z, a.w, b0, b1); }
inline u32 to_two(float low, float high) { return to_bf16x2(low, high); }
inline float to_float(Number x) { return __uint_as_float(u32(x) << 16); }
inline uint4 load_transposed(u32 row) {
    auto shown = emulated::show(row);
    const u32 lane = emulated::now->lane;
    u16 m[4][2];
    for (int i = 0; i < 8; i++) {
        const u64 at = shown[8 * (i / 2) + lane % 4 * 2 + i % 2][0] + lane / 4 * 2;
        std::memcpy(&m[i / 2][i % 2], emulated::now->block->shared + at, 2);
    }
    uint4 words;
    std::memcpy(&words, m, 16);
    return words;
}
"""
ENTRY = """
#ifdef SINKS
#define SINKS_OR_NOT sinks,
#else
#define SINKS_OR_NOT
#endif
EMULATED_ENTRY void launch(unsigned long long seed, const u16* q, const u16* k, const u16* v, const u16* sinks, u16* sums,
                       int heads, int kv_heads, int tokens, int visible, int capacity, bool causal, int window, float scale, float cap) {
    gridDim = {heads, (tokens + QUERIES - 1) / QUERIES};
    emulated::launch(gridDim.x * gridDim.y, WARPS, 4 * TILE + QUERIES * PITCH, seed, [&] {
        attend(q, k, v, SINKS_OR_NOT sums, kv_heads, tokens, visible, capacity, causal, window, scale, cap);
    });
}
"""


def text(head_dim, parts, keys, cap, sinks):
    sizes = dict(HEAD_DIM=head_dim, WARPS=WARPS, PARTS=parts, KEYS=keys, THREADS=32 * WARPS) | ({"SQUASH": 1} if cap else {})
    sizes |= {"SINKS": 1} if sinks else {}
    defines = "".join(f"#define {name} {value}\n" for name, value in sizes.items())
    return defines + HEADER.read_text() + INSTRUCTIONS + with_array(KERNEL.read_text()) + ENTRY


def to_bf16(x):
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def to_float(x):
    return (x.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def error(library, case, rng):
    heads, kv_heads, tokens, visible, capacity, causal, window = case
    head_dim = library.head_dim
    q = to_bf16(rng.standard_normal((tokens, heads, head_dim)))
    k, v = (to_bf16(rng.standard_normal((kv_heads, capacity, head_dim))) for _ in "kv")
    nothing = 0x7FC0
    k[:, visible:] = v[:, visible:] = nothing
    sums, scale = np.full_like(q, nothing), 1.5 / math.sqrt(head_dim)
    sinks = to_bf16(rng.standard_normal(heads))
    arrays = [a.ctypes.data_as(ctypes.c_void_p) for a in (q, k, v, sinks, sums)]
    seed = ctypes.c_ulonglong(int(rng.integers(1 << 60)))
    library.launch(seed, *arrays, heads, kv_heads, tokens, visible, capacity, causal, window, ctypes.c_float(scale), ctypes.c_float(library.cap))

    keys, values = (to_float(a)[:, :visible].repeat(heads // kv_heads, 0) for a in (k, v))
    own, key = np.arange(tokens)[:, None] + visible - tokens, np.arange(visible)[None]
    seen = (key <= own if causal else key < visible) & (key > own - window if window else True)
    seen &= key - own < window if window and not causal else True
    scores = np.einsum("lhd,hsd->hls", to_float(q), keys) * scale
    scores = library.cap * np.tanh(scores / library.cap) if library.cap else scores
    scores = np.where(seen, scores, -np.inf)
    if library.sinks:
        more = np.broadcast_to(to_float(sinks)[:, None, None], (heads, tokens, 1))
        scores, values = np.concatenate([scores, more], -1), np.pad(values, [(0, 0), (0, 1), (0, 0)])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    exact = np.einsum("hls,hsd->lhd", weights / weights.sum(-1, keepdims=True), values)
    wrong = np.linalg.norm(to_float(sums) - exact) / np.linalg.norm(exact)
    return wrong if np.isfinite(wrong) else math.inf


def main():
    rng, failed = np.random.default_rng(5), 0
    for (head_dim, parts, keys), (cap, sinks) in itertools.product(VARIANTS, SCORES):
        library = compiled(text(head_dim, parts, keys, cap, sinks))
        library.head_dim, library.cap, library.sinks = head_dim, cap, sinks
        errors = [error(library, case, rng) for case in CASES]
        # Weights and sums are rounded to bfloat16 once each.
        ok = max(errors) < 4e-3
        failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {head_dim} elements, {16 * parts} queries a warp, squashed to {cap}, sinks {sinks}: at most {max(errors):.1e}")
    sys.exit(failed != 0)


main()
