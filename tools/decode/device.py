"""A model with random weights, and the kernel launched on it: on the GPU with CuPy, or, where there is
none, emulated (`emulator.py`)."""

import math
import tempfile

import numpy as np
import torch

import bf12
import emulator
from source import cubin, name, place_numbers, scratch_words, smem_and_warps

LAYER_WORDS, LAST_WORDS = 32, 32
MATRICES = ["q", "k", "v", "o", "gate", "up", "down"]
NORMS = ["input_norm", "q_norm", "k_norm", "mlp_norm", "attention_out_norm", "mlp_out_norm"]
BIASES = ["q_bias", "k_bias", "v_bias"]
INPUTS = {"q": "input_norm", "k": "input_norm", "v": "input_norm", "gate": "mlp_norm", "up": "mlp_norm"}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def arch_of_device():
    major, minor = torch.cuda.get_device_capability()
    return {(8, 0): "80", (9, 0): "90a", (12, 0): "120"}[major, minor]


class Kernel:
    """Launches with the arguments of `decode_token`, or of `decode_tokens`: addresses, then int32s."""

    def __init__(self, m, timeline, tokens):
        import cupy

        arch = arch_of_device()
        self.grid = torch.cuda.get_device_properties(0).multi_processor_count
        data, _ = cubin(m, arch, self.grid, timeline, tokens)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(data)
            file.flush()
            self.module = cupy.RawModule(path=file.name)
            self.kernel = self.module.get_function(name(tokens))
        self.smem, warps = smem_and_warps(m, arch)
        self.threads = warps * 32
        self.kernel.max_dynamic_shared_size_bytes = self.smem

    def __call__(self, addresses, numbers):
        args = [np.uint64(a) for a in addresses] + [np.int32(n) for n in numbers]
        self.kernel((self.grid,), (self.threads,), tuple(args), shared_mem=self.smem)


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def random_matrix(rows, columns, bits, group, rare=False):
    if bits in (12, 16):
        plain = (torch.randn(rows, columns, device=DEVICE, dtype=torch.bfloat16) / math.sqrt(columns)).contiguous()
        if rare:
            make_rare(plain)
        return plain if bits == 16 else bf12.encode(plain)
    words = torch.randint(-(2**31), 2**31, (rows, columns * bits // 32), device=DEVICE, dtype=torch.int32)
    top = 2**bits
    spread = 1.0 / (math.sqrt(columns) * top / math.sqrt(12))
    scales = (spread * (0.5 + torch.rand(rows, columns // group, device=DEVICE))).bfloat16()
    biases = (-scales.float() * top * (0.4 + 0.2 * torch.rand_like(scales.float()))).bfloat16()
    return words, scales, biases, bits, group


def make_rare(w):
    """A row of zeros of both signs, a column of small numbers, and one element in 200 that is small, zero
    or denormal."""
    few = torch.rand(w.shape, device=w.device)
    w[few < 0.002] *= 2.0**-30
    w[few < 0.004] *= 2.0**-100
    w[few < 0.005] *= 0.0
    w[:, w.shape[1] // 2] *= 2.0**-20
    w[w.shape[0] // 3] *= 0.0


def make_others_rare(matrix, norm):
    """Large elements of a matrix that meet a zero of its input, so that those beside them are rare and
    all that counts."""
    column = 5
    norm[column] = 0.0
    plain = matrix.plain.clone()
    plain[torch.rand(plain.shape[0], device=DEVICE) < 0.1, column] = 2.0**14
    return bf12.encode(plain)


def random_weights(m):
    shapes = {
        "q": (m.heads * m.head_dim, m.hidden), "k": (m.kv_heads * m.head_dim, m.hidden),
        "v": (m.kv_heads * m.head_dim, m.hidden), "o": (m.hidden, m.heads * m.head_dim),
        "gate": (m.inter, m.hidden), "up": (m.inter, m.hidden), "down": (m.hidden, m.inter),
    }
    norm = lambda width: (1.0 + 0.2 * torch.randn(width, device=DEVICE)).bfloat16()
    weights = {}
    for l in range(m.layers):
        for name, shape in shapes.items():
            weights[f"{l}.{name}"] = random_matrix(*shape, m.bits, m.group, m.rare)
        for name in NORMS:
            weights[f"{l}.{name}"] = norm(m.head_dim if name in ("q_norm", "k_norm") else m.hidden)
        for name in BIASES if m.biases else []:
            rows = shapes[name[0]][0]
            weights[f"{l}.{name}"] = (0.5 * torch.randn(rows, device=DEVICE)).bfloat16()
        if m.rare:
            for name, behind in INPUTS.items():
                matrix = f"{l}.{name}"
                weights[matrix] = make_others_rare(weights[matrix], weights[f"{l}.{behind}"])
    weights["embed"] = random_matrix(m.vocab, m.hidden, m.embedding_bits(), m.group, m.rare)
    if not m.tied:
        weights["head"] = random_matrix(m.vocab, m.hidden, m.embedding_bits(), m.group, m.rare)
    weights["norm"] = norm(m.hidden)
    return weights


def matrix_parts(matrix):
    if isinstance(matrix, bf12.Encoded):
        return (matrix.units,)
    return matrix[:3] if isinstance(matrix, tuple) else (matrix,)


def matrix_words(matrix):
    parts = matrix_parts(matrix)
    return [p.data_ptr() for p in parts] + [0] * (3 - len(parts))


def matrix_bytes(matrix):
    parts = matrix_parts(matrix)
    return sum(p.numel() * p.element_size() for p in parts)


def addresses(words):
    return torch.tensor(np.array(words, dtype=np.uint64).view(np.int64), device=DEVICE)


class Decoder:
    """A kernel for so many tokens at a time. What there is of each token is a list where there are several."""

    def __init__(self, m, capacity, ring_capacity=1, weights=None, timeline=False, tokens=1):
        self.m, self.capacity, self.ring_capacity, self.tokens = m, capacity, ring_capacity, tokens
        self.kernel = Kernel(m, timeline, tokens) if DEVICE == "cuda" else emulator.Kernel(m, tokens)
        self.weights = random_weights(m) if weights is None else weights
        rings = set(m.rings())
        cache = lambda l: torch.randn(
            m.kv_heads, ring_capacity if l in rings else capacity, m.head_dim, device=DEVICE).bfloat16()
        of_tokens = [[(cache(l), cache(l)) for l in range(m.layers)] for _ in range(tokens)]
        self.caches = of_tokens[0] if tokens == 1 else of_tokens
        half = m.head_dim // 2
        i = torch.arange(half, device=DEVICE, dtype=torch.float64)
        self.periods = [(theta ** (i / half)).float() for theta in (m.theta, m.local_theta)]
        self.table = self.make_table()
        self.cache_table = addresses([c.data_ptr() for caches in of_tokens for pair in caches for c in pair])
        self.scratch = torch.zeros(scratch_words(tokens), device=DEVICE, dtype=torch.int32)
        self.token = torch.zeros(tokens, device=DEVICE, dtype=torch.int32)
        self.done = torch.zeros(1, device=DEVICE, dtype=torch.uint8)
        self.logits = torch.empty([m.vocab] if tokens == 1 else [tokens, m.vocab], device=DEVICE, dtype=torch.float32)

    def make_table(self):
        words, w = [], self.weights
        for l in range(self.m.layers):
            row = sum((matrix_words(w[f"{l}.{name}"]) for name in MATRICES), [])
            row += [w[f"{l}.{name}"].data_ptr() for name in NORMS + (BIASES if self.m.biases else [])]
            words += row + [0] * (LAYER_WORDS - len(row))
        row = matrix_words(w["embed"]) + matrix_words(w.get("head", w["embed"]))
        row += [w["norm"].data_ptr()] + [p.data_ptr() for p in self.periods]
        words += row + [0] * (LAST_WORDS - len(row))
        return addresses(words)

    def launch(self, position, ring_place=0, ring_held=1):
        self.launch_each([(position, ring_place, ring_held)])

    def launch_each(self, places):
        """`places`: for each token its position, or -1 for none, and where it goes in a ring, which then holds
        so many."""
        arrays = (self.token, self.table, self.cache_table, self.scratch, self.token, self.logits, self.done)
        numbers = []
        for position, ring_place, ring_held in places:
            numbers += [position, self.capacity, ring_place, ring_held, self.ring_capacity]
        numbers += [-1] * (place_numbers(self.tokens) - len(numbers))
        self.kernel([t.data_ptr() for t in arrays], numbers)

    def bytes(self, position, ring_held):
        """Weights and cache entries that one token has to read."""
        m = self.m
        total = sum(matrix_bytes(v) for k, v in self.weights.items() if k != "embed" or m.tied)
        row = 2 * m.kv_heads * m.head_dim * 2
        rings = set(m.rings())
        return total + sum(row * (ring_held if l in rings else position + 1) for l in range(m.layers))
