"""Compares the decode kernel with the float64 reference on small models, and times the full ones.

    python tools/decode/check.py [check] [together] [time] [brief] [name ...]

`together` compares tokens that go through together with the same tokens alone. `brief` is one token at two contexts, for a sanitizer. Without a GPU the kernel is emulated, which can be checked and not timed.
"""

import sys
import time

import torch

from device import DEVICE, Decoder, synchronize
from models import FULL, SMALL
from reference import Reference

BANDWIDTH = 4.37e12


def error(out, ref):
    out, ref = out.double(), ref.double()
    return float((out - ref).norm() / ref.norm()) if bool(out.isfinite().all()) else float("inf")


def check(m, brief=False):
    """A few tokens at several contexts. Wanted: logits nearer to the exact ones than a model that
    rounds every operation's result, and each near; in the first layer, where nothing has been rounded
    twice, cache entries that equal the reference's; nothing else in the caches touched; the same bits
    again. A token of random weights whose softmax is a near tie may be far away with any rounding (of 84
    of a 4-bit model, float64 with inputs in bfloat16 had one at 5e-2), so near is 2e-2, or twice what
    rounding does to that token."""
    mine, coarse, first, entries, near = [], [], 0.0, 0.0, True
    same, untouched = True, True
    weights = None
    steps = 4 if DEVICE == "cuda" and not brief else 1
    for position in (7, 300) if brief else (0, 7, 40, 300, 1500):
        d = Decoder(m, position + steps + 5, max(m.window, 1), weights)
        weights = d.weights
        references = [Reference(m, weights, rounding) for rounding in ("inputs", "nothing", "all")]
        rings = set(m.rings())
        for step in range(steps):
            at = position + step
            # The ring has room, is about to be full, or has come round.
            held = min(at + 1, max(m.window, 1))
            place = at if at < m.window else (at * 7 + 3) % max(m.window, 1)
            places = [place if l in rings else at for l in range(m.layers)]
            counts = [held if l in rings else at + 1 for l in range(m.layers)]
            caches = [[(k.double(), v.double()) for k, v in d.caches] for _ in references]
            d.token.fill_(int(torch.randint(m.vocab, (1,))))
            d.logits.fill_(float("nan"))
            d.launch(at, place, held)
            synchronize()
            out = d.logits.clone()
            inputs, exact, rounded = [r.step(int(d.token), at, c, places, counts) for r, c in zip(references, caches)]
            mine.append(error(out, exact))
            coarse.append(error(rounded, exact))
            near &= mine[-1] < max(2e-2, 2 * coarse[-1], 2 * error(inputs, exact))
            for l in range(m.layers):
                for cache, expected in zip(d.caches[l], caches[0][l]):
                    wrong = error(cache[:, places[l]], expected[:, places[l]])
                    entries = max(entries, wrong)
                    if l == 0:
                        first = max(first, wrong)
                    others = torch.arange(cache.shape[1], device=cache.device) != places[l]
                    untouched &= torch.equal(cache[:, others].double(), expected[:, others])
            d.logits.fill_(float("nan"))
            d.launch(at, place, held)
            synchronize()
            same &= torch.equal(out, d.logits)
    mean = lambda errors: sum(errors) / len(errors)
    ok = mean(mine) < mean(coarse) and near and first < 2e-3 and entries < 2e-2 and untouched and same
    print(f"{'ok  ' if ok else 'FAIL'} {m.name:20} logits {mean(mine):.1e}, at most {max(mine):.1e} (rounding all "
          f"{mean(coarse):.1e}); cache, first layer {first:.1e}, all {entries:.1e}, others kept {untouched}; "
          f"repeatable {same}", flush=True)
    return ok


def check_together(m, tokens):
    """The bits of a token alone, and what it leaves in its caches, for each of several at different contexts;
    and again with fewer of them."""
    few = [0, 300, 7, 1500, 130, 40, 641, 3]
    # Emulated, long ones take minutes.
    contexts = few[:tokens] if tokens <= 8 else [(few[t % 8] * (t + 8) // 8) % (3000 if DEVICE == "cuda" else 200) for t in range(tokens)]
    capacity, ring = max(contexts) + 5, max(m.window, 1)
    d = Decoder(m, capacity, ring, tokens=tokens)
    one = Decoder(m, capacity, ring, d.weights)
    held = lambda at: min(at + 1, ring)
    places = [(at, at if at < m.window else (at * 7 + 3) % ring, held(at)) for at in contexts]
    copies = [[(k.clone(), v.clone()) for k, v in caches] for caches in d.caches]
    d.token.copy_(torch.randint(m.vocab, (tokens,)))
    ok = True
    for absent in (set(), {0, tokens - 1}) if tokens <= 8 or DEVICE == "cuda" else ({2, tokens - 1},):
        expected = []
        for t in range(tokens):
            one.token[0] = d.token[t]
            for (k, v), (k0, v0) in zip(one.caches, copies[t]):
                k.copy_(k0), v.copy_(v0)
            one.launch(*places[t])
            synchronize()
            expected.append((one.logits.clone(), [(k.clone(), v.clone()) for k, v in one.caches]))
            for (k, v), (k0, v0) in zip(d.caches[t], copies[t]):
                k.copy_(k0), v.copy_(v0)
        d.logits.fill_(float("nan"))
        d.launch_each([(-1, 0, 0) if t in absent else place for t, place in enumerate(places)])
        synchronize()
        for t in range(tokens):
            logits, caches = (None, copies[t]) if t in absent else expected[t]
            ok &= t in absent or torch.equal(d.logits[t], logits)
            ok &= all(torch.equal(a, b) for mine, own in zip(d.caches[t], caches) for a, b in zip(mine, own))
    print(f"{'ok  ' if ok else 'FAIL'} {m.name:20} {tokens} together", flush=True)
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
    if DEVICE == "cuda":
        torch.cuda.set_stream(torch.cuda.default_stream())
    modes = [a for a in sys.argv[1:] if a in ("check", "together", "time", "brief")]
    modes = modes or ["check", "together"] + (["time"] if DEVICE == "cuda" else [])
    together = [int(a) for a in sys.argv[1:] if a.isdigit()] or [2, 4, 8] + ([16, 32] if DEVICE == "cuda" else [])
    names = [a for a in sys.argv[1:] if a not in modes and not a.isdigit()]
    chosen = lambda models: [m for m in models if not names or any(n in m.name for n in names)]
    failed = 0
    if "check" in modes or "brief" in modes:
        start = time.time()
        failed = sum(not check(m, "brief" in modes) for m in chosen(SMALL))
        print(f"{failed} failed, {time.time() - start:.0f} s")
    if "together" in modes:
        start = time.time()
        different = sum(not check_together(m, tokens) for m in chosen(SMALL) for tokens in together)
        print(f"{different} depend on others, {time.time() - start:.0f} s")
        failed += different
    if "time" in modes:
        for m in chosen(FULL):
            measure(m)
            torch.cuda.empty_cache()
    sys.exit(failed != 0)
