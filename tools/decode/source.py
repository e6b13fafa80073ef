"""The decode kernel for one model: its source with the model's sizes, compiled by NVRTC.

Needs no GPU: NVRTC comes from pip (`nvidia-cuda-nvrtc`), or with CuPy or PyTorch.
"""

import ctypes
import dataclasses
import glob
import hashlib
import math
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "crates/kernels/src/decode/cuda"
FILES = [
    "instructions.cuh", "../../cuda/tiles.cuh", "element.cuh", "../../bf12/cuda/unit.cuh", "shape.cuh",
    "share.cuh", "barrier.cuh", "cursor.cuh", "stream.cuh", "timeline.cuh", "product.cuh", "input.cuh", "attention.cuh",
]


ROWS = ["rows/deal.cuh", "rows/stream.cuh", "rows/tiles.cuh", "rows/multiply.cuh", "rows/attend.cuh"]


def files(tokens):
    if tokens == 1:
        return FILES + ["token.cu"]
    return FILES + ["place.cuh"] + (ROWS + ["rows.cu"] if tokens > 8 else ["tokens.cu"])


def name(tokens):
    return "decode_token" if tokens == 1 else "decode_rows" if tokens > 8 else "decode_tokens"


def scratch_words(tokens):
    return 1 << 23 if tokens <= 8 else tokens << 19


def place_numbers(tokens):
    """Numbers that the kernel takes by value."""
    return 5 if tokens == 1 else 40 if tokens <= 8 else 5 * tokens


def place_macros(tokens):
    """As `Sizes::source` has it."""
    if tokens <= 8:
        return ""
    numbers = range(place_numbers(tokens))
    return ("#define PLACES " + ", ".join(f"int p{i}" for i in numbers) + "\n#define PUT_PLACES(to) "
            + " ".join(f"to[{i}] = p{i};" for i in numbers) + "\n")


@dataclasses.dataclass
class Model:
    name: str
    layers: int
    hidden: int
    inter: int
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    bits: int = 16
    group: int = 64
    head_bits: int | None = None
    gemma: bool = False  # GELU, embeddings times the root of the width, and norms behind unless that is said
    norms_behind: bool | None = None
    head_norms: bool = True
    biases: bool = False  # of queries, keys and values
    score_cap: float = 0.0
    tied: bool = True
    window: int = 0
    pattern: int = 6
    softcap: float = 0.0
    rare: bool = False  # whether many weights are too small for 12 bits
    eps: float = 1e-6
    slice_bytes: int = 1 << 16  # of the inputs of several tokens that are in shared memory at a time
    theta: float = 1e6
    local_theta: float = 1e4

    def rings(self):
        """The layers with a sliding window."""
        if not self.window:
            return []
        return [i for i in range(self.layers) if (i + 1) % self.pattern != 0]

    def has_norms_behind(self):
        return self.gemma if self.norms_behind is None else self.norms_behind

    def embedding_bits(self):
        return self.bits if self.head_bits is None else self.head_bits


def smem_and_warps(m, arch):
    """As `Sizes::dynamic_shared_memory` has it: packed weights leave some for the first-level cache."""
    kilobytes = {"80": 163, "90a": 227, "120": 99}[arch]
    packed = m.bits <= 8 or m.embedding_bits() <= 8
    kilobytes -= 32 if packed and kilobytes >= 160 else 0
    smem = int(os.environ.get("DECODE_SMEM", kilobytes)) * 1024
    return smem - 256, int(os.environ.get("DECODE_WARPS", 8))


def defines(m, arch, grid, tokens=1):
    scratch = scratch_words(tokens)
    smem, warps = smem_and_warps(m, arch)
    mask = sum(1 << i for i in m.rings())
    embed_scale = 1.0
    if m.gemma:
        import numpy as np

        bits = np.float32(math.sqrt(m.hidden)).view(np.uint32)
        rounded = np.uint32((int(bits) + 0x7FFF + ((int(bits) >> 16) & 1)) & 0xFFFF0000)
        embed_scale = float(rounded.view(np.float32))
    head = m.embedding_bits()
    scale = m.head_dim ** -0.5
    f = lambda x: f"{float(x)!r}f"
    values = dict(
        GRID=grid, TOKENS=tokens, SLICE_COLUMNS=m.slice_bytes // 2 // tokens, WARPS=warps, SMEM=smem, SCRATCH=scratch, LAYERS=m.layers, HIDDEN=m.hidden,
        INTER=m.inter, VOCAB=m.vocab, HEADS=m.heads, KV_HEADS=m.kv_heads, HEAD_DIM=m.head_dim,
        BITS=m.bits, GROUP=m.group, EMBEDDING_BITS=head, EMBEDDING_GROUP=m.group, LM_HEAD_BITS=head,
        LM_HEAD_GROUP=m.group, NORMS_BEHIND=int(m.has_norms_behind()),
        GELU=int(m.gemma), HEAD_NORMS=int(m.head_norms), QKV_BIASES=int(m.biases), SCORE_CAP=f(m.score_cap), EPS=f(m.eps), EMBED_SCALE=f(embed_scale),
        SOFTCAP=f(m.softcap), SCORE_SCALE=f(scale), RING_SCORE_SCALE=f(scale),
        POSITION_SCALE="1.0f", RING_POSITION_SCALE="1.0f",
        RINGS_LOW=f"{mask & (2**64 - 1)}ull", RINGS_HIGH=f"{mask >> 64}ull",
    )
    return "".join(f"#define {k} {v}\n" for k, v in values.items()) + place_macros(tokens)


def source(m, arch, grid, timeline=False, tokens=1):
    start = "".join(f"#define {d.replace('=', ' ')}\n" for d in os.environ.get("DECODE_DEFINES", "").split())
    start += "#define TIMELINE\n" if timeline else ""
    return start + defines(m, arch, grid, tokens=tokens) + "".join((FOLDER / f).read_text() for f in files(tokens))


def _nvrtc():
    for folder in sys.path:
        for path in sorted(glob.glob(f"{folder}/nvidia/**/libnvrtc.so.1[23]", recursive=True)):
            return ctypes.CDLL(path)
    return ctypes.CDLL("libnvrtc.so")


def compile_source(text, arch):
    """The cubin, and the assembler's report."""
    lib = _nvrtc()
    program = ctypes.c_void_p()
    assert lib.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"decode.cu", 0, None, None) == 0
    options = [f"--gpu-architecture=sm_{arch}".encode(), b"--ptxas-options=-v", b"-default-device",
               b"--std=c++17"]
    status = lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetProgramLog(program, log)
    if status != 0:
        raise RuntimeError(log.value.decode())
    lib.nvrtcGetCUBINSize(program, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetCUBIN(program, cubin)
    return cubin.raw, log.value.decode()


def cubin(m, arch, grid, timeline=False, tokens=1):
    """The cubin, kept in the folder DECODE_CUBINS if that is set."""
    text = source(m, arch, grid, timeline, tokens)
    kept = os.environ.get("DECODE_CUBINS")
    path = Path(kept or ".") / (hashlib.sha256((arch + text).encode()).hexdigest()[:24] + ".cubin")
    if kept and path.exists():
        return path.read_bytes(), ""
    data, log = compile_source(text, arch)
    if kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return data, log
