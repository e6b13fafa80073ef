"""Times `crates/kernels/src/bf12/cuda`: a matrix of 12 bits an element made plain, and checks every bit.

    python tools/decode/unpack.py
"""

import tempfile

import numpy as np
import torch

import bf12
from device import arch_of_device, make_rare
from source import FOLDER, compile_source

ROWS, COLUMNS, TURNS = 12288, 4096, 40


def kernel():
    import cupy

    folder = FOLDER / "../../bf12/cuda"
    text = "".join((folder / f).read_text() for f in ("unit.cuh", "warp.cuh", "encode.cu", "unpack.cu"))
    cubin, _ = compile_source(text, arch_of_device())
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return cupy.RawModule(path=file.name).get_function("unpack")


def measure(name, w, unpack, threads):
    units = w.units.shape[0] * w.units.shape[1]
    out = torch.empty_like(w.plain)
    args = (np.uint64(w.units.data_ptr()), np.uint64(out.data_ptr()), *map(np.int32, (units, *w.plain.shape)))
    grid = -(-units // (threads // 32))
    times = []
    for _ in range(TURNS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        unpack((grid,), (threads,), args)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    times.sort()
    same = torch.equal(out.view(torch.int16), w.plain.view(torch.int16))
    us = times[len(times) // 2]
    moved = w.units.numel() + 2 * w.plain.numel()
    print(f"{name}, {threads} threads: {us:6.1f} us [{times[0]:.1f}, {times[-1]:.1f}], {moved / us / 1e6:.2f} TB/s, same {same}", flush=True)


if __name__ == "__main__":
    torch.manual_seed(5)
    torch.cuda.set_stream(torch.cuda.default_stream())
    plain = torch.randn(ROWS, COLUMNS, device="cuda", dtype=torch.bfloat16) / 64
    unpack = kernel()
    for threads in (128, 256, 512):
        measure("normal", bf12.encode(plain), unpack, threads)
    make_rare(plain)
    measure("with many rare", bf12.encode(plain), unpack, 256)
