"""Bfloat16 matrices as the units of `crates/kernels/src/bf12/cuda/unit.cuh`."""

import dataclasses

import torch

ROWS, COLUMNS, BYTES, HERE = 8, 128, 1568, 4


@dataclasses.dataclass
class Encoded:
    plain: torch.Tensor
    units: torch.Tensor  # uint8 [rows of units, units of a row, BYTES]
    more: torch.Tensor  # the further rare elements, int32


def blocks(w):
    """`[rows of units, units of a row, ROWS, COLUMNS]`, with zeros around; an even number of rows."""
    pad = (-w.shape[1] % COLUMNS, -w.shape[0] % (2 * ROWS))
    w = torch.nn.functional.pad(w, (0, pad[0], 0, pad[1]))
    return w.view(w.shape[0] // ROWS, ROWS, w.shape[1] // COLUMNS, COLUMNS).transpose(1, 2).contiguous()


def encode(w):
    words = blocks(w).view(torch.int16)
    grid = words.shape[:2]
    exponents = (words >> 7 & 255).to(torch.int16)
    tops = exponents.amax(-1, keepdim=True).clamp(min=16)
    tops[(words & 0x7FFF).amax(-1, keepdim=True) == 0] = 0
    codes = exponents - (tops - 15)
    coded = (tops > 0) & (exponents > 0) & (codes >= 0)
    codes[~coded] = 0
    kept = words & torch.tensor(-32768 + 127, dtype=torch.int16, device=w.device)
    kept[~coded & (tops > 0)] = 0
    inside = blocks(torch.ones_like(w)) > 0
    rare = ~coded & (tops > 0) & inside
    low = (kept & 127 | codes << 7 & 128).to(torch.uint8)
    high = (kept >> 8 & 128 | codes >> 1).to(torch.uint8)
    # Of column 32 j + 8 t + i, j in two halves.
    low = low.view(*grid, ROWS, 2, 2, 4, 8).permute(0, 1, 3, 2, 5, 4, 6).reshape(*grid, 1024)
    high = high.view(*grid, ROWS, 4, 4, 2, 4).permute(0, 1, 2, 4, 3, 5, 6).reshape(*grid, 128, 2, 4)
    second = high[..., 1, :]
    before = second.roll(1, -1)  # the byte whose bit 7 comes to bit 3 of this one
    high = high[..., 0, :] | (second & 7) << 4 | before >> 4 & 8
    units = torch.zeros(*grid, BYTES, dtype=torch.uint8, device=w.device)
    units[..., :1024] = low
    units[..., 1024:1536] = high.reshape(*grid, 512)
    units[..., 1536:1544] = tops.squeeze(-1).to(torch.uint8)
    more = list_rare(units.view(-1, BYTES), words.reshape(-1), rare.reshape(-1))
    return Encoded(w, units, more)


def list_rare(units, words, rare):
    places = rare.nonzero().squeeze(-1)
    unit, place = places // (ROWS * COLUMNS), places % (ROWS * COLUMNS)
    bits = words[places].long() & 0xFFFF
    listed = (bits << 16 | 0x8000 | place).to(torch.int64)
    listed = torch.where(listed >= 2**31, listed - 2**32, listed).to(torch.int32)
    first = torch.searchsorted(unit.contiguous(), unit.contiguous())
    rank = torch.arange(len(unit), device=unit.device) - first
    ends = units[:, 1544:].contiguous().view(torch.int32)  # 4 words, and an address of two
    here = rank < HERE
    ends[unit[here], rank[here]] = listed[here]
    full = unit[rank == HERE].tolist()
    counts = [int((unit == u).sum()) - HERE for u in full]
    more = torch.zeros(sum(counts) + len(counts) + 1, dtype=torch.int32, device=units.device)
    at = 0
    for u, count in zip(full, counts):
        more[at] = count
        more[at + 1 : at + 1 + count] = listed[(unit == u) & ~here]
        ends.view(torch.int64)[u, 2] = more.data_ptr() + 4 * at
        at += 1 + count
    units[:, 1544:] = ends.view(torch.uint8)
    return more
