"""The timeline of one token: how long one block spends in each step, a layer's mean.

    DECODE_TIMELINE=7 python tools/decode/timeline.py [name ...]    (block 7)
"""

import sys

import torch

from device import Decoder
from models import FULL

STEPS = [
    "norm + qkv input", "qkv product", "qkv gather", "barrier", "q and k heads", "keys and values", "combine warps", "combine blocks", "barrier",
    "o input", "o product", "o gather", "barrier",
    "norm + gate input", "gate/up product", "gate/up gather", "barrier",
    "down input", "down product", "down gather", "barrier",
]


def timeline(m, position=2176):
    ring_held = min(position + 1, max(m.window, 1))
    d = Decoder(m, 2304, max(m.window, 1))
    us = []
    for _ in range(8):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        d.launch(position, 0, ring_held)
        end.record()
        end.synchronize()
        us.append(start.elapsed_time(end) * 1e3)
    count = 1 + m.layers * len(STEPS) + 2
    marks = d.scratch[-8192:].view(torch.int64)[:count].double().cpu()
    gaps = marks[1:] - marks[:-1]
    per_us = float(marks[-1] - marks[0]) / min(us)
    layers = gaps[: m.layers * len(STEPS)].view(m.layers, len(STEPS)) / per_us
    print(f"{m.name}: {min(us):.1f} us; a layer {float(layers.sum(1).mean()):.2f}, "
          f"last norm {float(gaps[-2] / per_us):.2f}, logits {float(gaps[-1] / per_us):.2f}")
    for name, column in zip(STEPS, layers[1:].T):
        print(f"  {name:20} {float(column.mean()):6.2f}  [{float(column.min()):.2f}, {float(column.max()):.2f}]")


if __name__ == "__main__":
    for m in FULL:
        if not sys.argv[1:] or any(n in m.name for n in sys.argv[1:]):
            timeline(m)
            torch.cuda.empty_cache()
