"""The timeline of one token: how long the blocks spend in each step, a layer's mean; and when they come
to each barrier, so that one sees what they wait for: the last block, or the barrier itself.

    python tools/decode/timeline.py [name ...]
"""

import sys

import torch

from device import Decoder
from models import FULL

STEPS = [
    "norm + qkv input", "qkv product", "qkv gather", "barrier",
    "q and k heads", "keys and values", "combine warps", "combine blocks", "barrier",
    "o input", "o product", "o gather", "barrier",
    "norm + gate input", "gate/up product", "gate/up gather", "barrier",
    "down input", "down product", "down gather", "barrier",
]
BARRIERS = [i for i, step in enumerate(STEPS) if step == "barrier"]


def readings(m, position=2176):
    """Clock readings `[block, reading]`, the multiprocessor of each block, and the token's microseconds."""
    ring_held = min(position + 1, max(m.window, 1))
    d = Decoder(m, 2304, max(m.window, 1), timeline=True)
    us = []
    for _ in range(8):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        d.launch(position, 0, ring_held)
        end.record()
        end.synchronize()
        us.append(start.elapsed_time(end) * 1e3)
    places = 1 + m.layers * len(STEPS) + 3
    words = d.scratch[-2 * places * d.kernel.grid:].view(torch.int64)
    rows = words.view(d.kernel.grid, places).flip(0).cpu()
    return rows[:, :-1].double(), rows[:, -1].tolist(), us[-1]


def aligned(clocks, layers):
    """The multiprocessors' clocks have no common zero. All blocks leave a barrier within a fraction of
    a microsecond, so the median over all barriers of how far they leave apart is their clocks' distance."""
    leave = [1 + layer * len(STEPS) + b for layer in range(layers) for b in BARRIERS]
    apart = clocks[:, leave] - clocks[:1, leave]
    return clocks - apart.median(1, keepdim=True).values


def report(name, layers, clocks, multiprocessors, us):
    clocks = aligned(clocks, layers)
    times = (clocks - clocks.min()) / (clocks.max() - clocks.min()) * us
    blocks = times.shape[0]
    ends = times[:, 1 : 1 + layers * len(STEPS)].view(blocks, layers, len(STEPS))
    starts = times[:, : layers * len(STEPS)].view(blocks, layers, len(STEPS))
    spent = (ends - starts)[:, 1:]
    layer = (times[:, layers * len(STEPS)] - times[:, 0]).mean() / layers
    print(f"{name}: {us:.1f} us; a layer {layer:.2f}, last norm {(times[:, -2] - times[:, -3]).mean():.2f}, "
          f"logits {(times[:, -1] - times[:, -2]).mean():.2f}")
    print("  step: mean [least, most of a block]")
    for i, step in enumerate(STEPS):
        of_block = spent[:, :, i].mean(1)
        print(f"  {step:20} {of_block.mean():6.2f}  [{of_block.min():.2f}, {of_block.max():.2f}]")
    print("  before the last block comes to the barrier: the first block, 10%, 50%, 90%; behind it they leave;")
    print("  multiprocessors that come late, on the mean of all layers, and those that come early")
    for i in BARRIERS:
        last = starts[:, 1:, i].amax(0)
        early = (last - starts[:, 1:, i]).mean(1)
        at = [torch.quantile(early, q) for q in (1.0, 0.9, 0.5, 0.1)]
        order = [multiprocessors[b] for b in early.argsort().tolist()]
        print(f"  {STEPS[i - 1]:16}" + "".join(f"{x:7.2f}" for x in at) + f"  leave {(ends[:, 1:, i] - last).mean():5.2f}"
              f"  {order[:8]} {order[-8:]}")


if __name__ == "__main__":
    for m in FULL:
        if not sys.argv[1:] or any(n in m.name for n in sys.argv[1:]):
            clocks, multiprocessors, us = readings(m)
            report(m.name, m.layers, clocks, multiprocessors, us)
            torch.cuda.empty_cache()
