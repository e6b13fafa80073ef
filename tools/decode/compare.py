"""Times variants of the decode kernel in turn, on the same weights and caches.

    python tools/decode/compare.py "Qwen3-8B bf16" "" "WINDOW_TILES=4" "WINDOW_TILES=6 smem=227" "tree=../other"

A variant is macros to define, kilobytes of shared memory (`smem=`), or another working tree (`tree=`).
Its logits are compared with the first one's.
"""

import os
import sys
from pathlib import Path

import torch

import source
from device import Decoder
from models import FULL

HERE = source.FOLDER
POSITION, ROUNDS, LAUNCHES = 2176, 8, 4


def decoder(m, variant, like):
    words = variant.split()
    options = dict(w.split("=", 1) for w in words if w.startswith(("smem=", "tree=")))
    os.environ["DECODE_DEFINES"] = " ".join(w for w in words if not w.startswith(("smem=", "tree=")))
    os.environ.pop("DECODE_SMEM", None)
    if "smem" in options:
        os.environ["DECODE_SMEM"] = options["smem"]
    source.FOLDER = Path(options["tree"]) / "crates/kernels/src/decode/cuda" if "tree" in options else HERE
    d = Decoder(m, 2304, max(m.window, 1), like and like.weights)
    if like:
        d.caches, d.cache_table = like.caches, like.cache_table
    d.token.fill_(17)
    return d


def compare(m, variants):
    decoders = []
    for variant in variants:
        decoders.append(decoder(m, variant, decoders[0] if decoders else None))
    held = min(POSITION + 1, max(m.window, 1))
    times = [[] for _ in decoders]
    for turn in range(ROUNDS + 1):
        for d, us in zip(decoders, times):
            d.launch(POSITION, 0, held)
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(LAUNCHES):
                d.launch(POSITION, 0, held)
            end.record()
            end.synchronize()
            if turn > 0:
                us.append(start.elapsed_time(end) / LAUNCHES * 1e3)
    first = decoders[0].logits
    for variant, d, us in zip(variants, decoders, times):
        us.sort()
        apart = float((d.logits - first).norm() / first.norm())
        print(f"{m.name:18} {variant:40} {us[len(us) // 2]:8.1f} us [{us[0]:.1f}, {us[-1]:.1f}]  logits {apart:.1e}",
              flush=True)


if __name__ == "__main__":
    torch.manual_seed(5)
    torch.cuda.set_stream(torch.cuda.default_stream())
    for m in FULL:
        if sys.argv[1] in m.name:
            compare(m, sys.argv[2:] or [""])
            torch.cuda.empty_cache()
