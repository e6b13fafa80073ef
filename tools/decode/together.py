"""Times tokens of several sequences that go through together, beside one alone, and says what the blocks do
with that time.

    python tools/decode/together.py [name ...] [tokens=8] [position=600] [slice=65536 ...]

`slice`: bytes of the inputs of all tokens that are in shared memory at a time.
"""

import dataclasses
import sys

import torch

from check import BANDWIDTH
from device import Decoder
from models import FULL

WORKS = ["normalize", "wait", "copy", "multiply", "gather", "attend"]


def microseconds(d, places, repeats=20):
    times = []
    for _ in range(repeats + 3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        d.launch_each(places)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return sorted(times[3:])[repeats // 2]


def report(m, tokens, position, slices):
    ring = max(m.window, 1)
    place = (position, 0, min(position + 1, ring))
    alone = Decoder(m, position + 8, ring)
    floor = alone.bytes(position, ring) + (tokens - 1) * (alone.bytes(position, ring) - alone.bytes(-1, 0))
    print(f"{m.name:20} alone {microseconds(alone, [place]):7.1f} us; {tokens} together: floor {floor / BANDWIDTH * 1e6:.1f} us")
    for size in slices if tokens <= 8 else slices[:1]:
        sized = dataclasses.replace(m, slice_bytes=size)
        try:
            plain = Decoder(sized, position + 8, ring, alone.weights, tokens=tokens)
            us = microseconds(plain, [place] * tokens)
            d = Decoder(sized, position + 8, ring, alone.weights, timeline=True, tokens=tokens)
        except RuntimeError as error:
            print(f"  slices of {size // 1024} kB: {'no room' if 'no room' in str(error) else error}")
            continue
        measured = microseconds(d, [place] * tokens, 4)
        grid = d.kernel.grid
        spent = d.scratch[-2 * len(WORKS) * grid:].view(torch.int64).view(grid, len(WORKS)).double().cpu()
        mean = spent.mean(0) / spent.sum(1).mean() * measured
        print(f"  slices of {size // 1024} kB: {us:7.1f} us, {tokens * 1e6 / us:8.0f} token/s; "
              + ", ".join(f"{work} {t:.0f}" for work, t in zip(WORKS, mean.tolist())), flush=True)


if __name__ == "__main__":
    words = [a.split("=") for a in sys.argv[1:] if "=" in a]
    value = lambda name, default: [int(v) for k, v in words if k == name] or default
    names = [a for a in sys.argv[1:] if "=" not in a]
    torch.cuda.set_stream(torch.cuda.default_stream())
    for m in FULL:
        if not names or any(n in m.name for n in names):
            for tokens in value("tokens", [8]):
                report(m, tokens, value("position", [600])[0], value("slice", [65536, 32768, 16384]))
            torch.cuda.empty_cache()
