"""One token through the model in float64, with PyTorch's plain operations.

What is rounded to bfloat16 on the way is a choice: "nothing"; "inputs", what enters a product, as
the kernel does; or "all", every operation's result, as a bfloat16 model runs operation by operation.
"""

import math

import torch

from bf12 import Encoded


def dequantized(matrix):
    """`[rows, columns]` in float64 of (words, scales, biases), or of a plain or encoded matrix."""
    if isinstance(matrix, Encoded):
        matrix = matrix.plain
    if not isinstance(matrix, tuple):
        return matrix.double()
    words, scales, biases, bits, group = matrix
    shifts = torch.arange(0, 32, bits, device=words.device)
    q = (words.long().unsqueeze(-1) & 0xFFFFFFFF) >> shifts & ((1 << bits) - 1)
    q = q.reshape(words.shape[0], -1, group).double()
    w = q * scales.double().unsqueeze(-1) + biases.double().unsqueeze(-1)
    return w.reshape(words.shape[0], -1)


class Reference:
    def __init__(self, model, weights, rounding):
        assert rounding in ("nothing", "inputs", "all")
        self.m, self.rounding = model, rounding
        self.w = {k: dequantized(v) for k, v in weights.items()}

    def result(self, x):
        return x.to(torch.bfloat16).double() if self.rounding == "all" else x

    def product(self, name, x):
        if self.rounding != "nothing":
            x = x.to(torch.bfloat16).double()
        return self.result(self.w[name] @ x)

    def biased(self, layer, name, x):
        y = self.product(f"{layer}.{name}", x)
        return self.result(y + self.w[f"{layer}.{name}_bias"]) if self.m.biases else y

    def norm(self, name, x):
        return self.result(x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.m.eps) * self.w[name])

    def rope(self, x, position, theta):
        half = self.m.head_dim // 2
        i = torch.arange(half, device=x.device, dtype=torch.float64)
        angle = position * theta ** (-i / half)
        a, b = x[..., :half], x[..., half:]
        turned = torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)
        return self.result(turned)

    def step(self, token, position, caches, places, held):
        """Logits; writes the new keys and values into `caches[layer] = (k, v)`, `[kv_heads,
        capacity, head_dim]` in float64, at `places[layer]`, where `held[layer]` are then valid."""
        m = self.m
        x = self.w["embed"][token]
        if m.gemma:
            x = self.result(x * float(torch.tensor(math.sqrt(m.hidden)).to(torch.bfloat16)))
        rings = set(m.rings())
        for l in range(m.layers):
            h = self.norm(f"{l}.input_norm", x)
            q = self.biased(l, "q", h).view(m.heads, m.head_dim)
            k = self.biased(l, "k", h).view(m.kv_heads, m.head_dim)
            v = self.biased(l, "v", h).view(m.kv_heads, m.head_dim)
            theta = m.local_theta if l in rings else m.theta
            if m.head_norms:
                q, k = self.norm(f"{l}.q_norm", q), self.norm(f"{l}.k_norm", k)
            q, k = self.rope(q, position, theta), self.rope(k, position, theta)
            keys, values = caches[l]
            keys[:, places[l]] = k.to(torch.bfloat16).double()
            values[:, places[l]] = v.to(torch.bfloat16).double()
            keys, values = keys[:, : held[l]], values[:, : held[l]]
            repeat = m.heads // m.kv_heads
            q = q.view(m.kv_heads, repeat, m.head_dim)
            scores = torch.einsum("hrd,hsd->hrs", q, keys) * m.head_dim ** -0.5
            if m.score_cap:
                scores = m.score_cap * torch.tanh(scores / m.score_cap)
            mixed = torch.einsum("hrs,hsd->hrd", scores.softmax(-1), values).reshape(-1)
            out = self.product(f"{l}.o", mixed)
            x = self.result(x + (self.norm(f"{l}.attention_out_norm", out) if m.has_norms_behind() else out))
            h = self.norm(f"{l}.mlp_norm", x)
            gate, up = self.product(f"{l}.gate", h), self.product(f"{l}.up", h)
            if m.gemma:
                act = self.result(torch.nn.functional.gelu(gate, approximate="tanh")) * up
            else:
                act = self.result(torch.nn.functional.silu(gate)) * up
            out = self.product(f"{l}.down", act)
            x = self.result(x + (self.norm(f"{l}.mlp_out_norm", out) if m.has_norms_behind() else out))
        logits = self.product("head" if "head" in self.w else "embed", self.norm("norm", x))
        return m.softcap * torch.tanh(logits / m.softcap) if m.softcap else logits
