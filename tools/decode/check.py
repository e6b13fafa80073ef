"""Compares the decode kernel with the float64 reference on small models, and times the full ones.

    python tools/decode/check.py [check] [time] [timeline] [name ...]
"""

import sys
import time

import torch

from device import Decoder
from models import FULL, SMALL
from reference import Reference

BANDWIDTH = 4.37e12


def error(out, ref):
    out, ref = out.double(), ref.double()
    return float((out - ref).norm() / ref.norm()) if bool(out.isfinite().all()) else float("inf")


def check(m, steps=4):
    """The largest errors over a few tokens at several contexts: of logits against the rounded and
    the exact reference, of the cache entries written, and whether a repetition is bitwise equal."""
    worst = [0.0, 0.0, 0.0]
    same = True
    weights = None
    for position in (0, 7, 40, 300, 1500):
        d = Decoder(m, position + steps + 5, max(m.window, 1), weights)
        weights = d.weights
        rounded, exact = Reference(m, weights, True), Reference(m, weights, False)
        rings = set(m.rings())
        for step in range(steps):
            at = position + step
            # The ring has room, is about to be full, or has come round.
            held = min(at + 1, max(m.window, 1))
            place = at if at < m.window else (at * 7 + 3) % max(m.window, 1) if m.window else 0
            places = [place if l in rings else at for l in range(m.layers)]
            counts = [held if l in rings else at + 1 for l in range(m.layers)]
            before = [(k.double(), v.double()) for k, v in d.caches]
            copies = [(k.clone(), v.clone()) for k, v in before]
            d.token.fill_(int(torch.randint(m.vocab, (1,))))
            d.logits.fill_(float("nan"))
            d.launch(at, place, held)
            torch.cuda.synchronize()
            out = d.logits.clone()
            ref = rounded.step(int(d.token), at, before, places, counts)
            true = exact.step(int(d.token), at, copies, places, counts)
            worst[0] = max(worst[0], error(out, ref))
            worst[1] = max(worst[1], error(out, true))
            for l in range(m.layers):
                for mine, theirs in zip(d.caches[l], before[l]):
                    worst[2] = max(worst[2], error(mine[:, places[l]], theirs[:, places[l]]))
                    untouched = torch.ones(mine.shape[1], dtype=torch.bool, device=mine.device)
                    untouched[places[l]] = False
                    if not torch.equal(mine[:, untouched].double(), theirs[:, untouched]):
                        worst[2] = float("inf")
            d.logits.fill_(float("nan"))
            d.launch(at, place, held)
            torch.cuda.synchronize()
            same &= torch.equal(out, d.logits)
    ok = worst[0] < 5e-3 and worst[1] < 2e-2 and worst[2] < 1e-2 and same
    print(f"{'ok  ' if ok else 'FAIL'} {m.name:22} rounded {worst[0]:.1e} exact {worst[1]:.1e} "
          f"cache {worst[2]:.1e} repeatable {same}", flush=True)
    return ok


def measure(m, position=2176, repeats=40):
    ring_held = min(position + 1, max(m.window, 1))
    d = Decoder(m, 2304, max(m.window, 1))
    d.token.fill_(17)
    for _ in range(3):
        d.launch(position, 0, ring_held)
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(4):
            d.launch(position, 0, ring_held)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 4 * 1e3)
    times.sort()
    us, floor = times[len(times) // 2], d.bytes(position, ring_held) / BANDWIDTH * 1e6
    finite = bool(d.logits.isfinite().all())
    print(f"{m.name:22} {us:8.1f} us {1e6 / us:7.1f} token/s  floor {floor:7.1f} us  {100 * floor / us:5.1f}%"
          f"  [{times[0]:.1f}, {times[-1]:.1f}] {'' if finite else 'NOT FINITE'}", flush=True)
    return d


if __name__ == "__main__":
    torch.manual_seed(5)
    torch.cuda.set_stream(torch.cuda.default_stream())
    modes = [a for a in sys.argv[1:] if a in ("check", "time")] or ["check", "time"]
    names = [a for a in sys.argv[1:] if a not in ("check", "time")]
    chosen = lambda models: [m for m in models if not names or any(n in m.name for n in names)]
    failed = 0
    if "check" in modes:
        start = time.time()
        failed = sum(not check(m) for m in chosen(SMALL))
        print(f"{failed} failed, {time.time() - start:.0f} s")
    if "time" in modes:
        for m in chosen(FULL):
            measure(m)
            torch.cuda.empty_cache()
    sys.exit(failed != 0)
