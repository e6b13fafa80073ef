"""MLX's quantized formats, decoded from their definitions in float64.

Nothing here calls MLX, so that a fault in one of its kernels cannot hide in the
reference that its results are held against.

A row of `n` weights is one little-endian stream of `n * bits` bits, stored as
uint32 words. What a code stands for depends on the mode:

- affine: `code * scale + bias`; scale and bias are floats, one each a group.
- mxfp4: an E2M1 float, times an E8M0 scale (a power of two) for each 32.
- mxfp8: an E4M3 float, times an E8M0 scale for each 32.
- nvfp4: an E2M1 float, times an E4M3 scale for each 16.

The float formats are those of the OCP Microscaling specification, version 1.0.
"""

import numpy as np


def codes(packed: np.ndarray, bits: int) -> np.ndarray:
    """[rows, words] of uint32 to [rows, n] of integers below 2^bits."""
    rows = packed.shape[0]
    stream = np.unpackbits(packed.astype("<u4").view(np.uint8), axis=-1, bitorder="little")
    return stream.reshape(rows, -1, bits).astype(np.int64) @ (1 << np.arange(bits))


def e2m1(code: np.ndarray) -> np.ndarray:
    """Sign, two bits of exponent with bias 1, one of mantissa; no infinity, no NaN."""
    return minifloat(code, exponent_bits=2, mantissa_bits=1, bias=1)


def e4m3(code: np.ndarray) -> np.ndarray:
    """Sign, four bits of exponent with bias 7, three of mantissa; all ones is NaN."""
    value = minifloat(code, exponent_bits=4, mantissa_bits=3, bias=7)
    return np.where(code & 0x7F == 0x7F, np.nan, value)


def e8m0(code: np.ndarray) -> np.ndarray:
    """A power of two: no sign, bias 127; all ones is NaN."""
    return np.where(code == 0xFF, np.nan, np.exp2(code.astype(np.float64) - 127))


def minifloat(code: np.ndarray, exponent_bits: int, mantissa_bits: int, bias: int) -> np.ndarray:
    mantissa = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    sign = np.where(code >> (exponent_bits + mantissa_bits) & 1, -1.0, 1.0)
    subnormal = exponent == 0
    magnitude = np.where(subnormal, mantissa, 1 + mantissa) * np.exp2(np.maximum(exponent, 1) - float(bias))
    return sign * magnitude


#: mode: (what a code stands for, what a scale byte stands for)
FLOAT_MODES = {"mxfp4": (e2m1, e8m0), "mxfp8": (e4m3, e8m0), "nvfp4": (e2m1, e4m3)}


def dequantize(packed, scales, biases, mode: str, group_size: int, bits: int) -> np.ndarray:
    """[rows, n] in float64, or [experts, rows, n]; `biases` is None for every mode but affine."""
    if packed.ndim == 3:
        of = lambda array, expert: None if array is None else array[expert]
        parts = (dequantize(packed[e], scales[e], of(biases, e), mode, group_size, bits) for e in range(len(packed)))
        return np.stack(list(parts))
    weights = codes(packed, bits)
    grouped = weights.reshape(weights.shape[0], -1, group_size)
    if mode == "affine":
        values = grouped * scales[..., None].astype(np.float64) + biases[..., None].astype(np.float64)
    else:
        element, scale = FLOAT_MODES[mode]
        values = element(grouped) * scale(scales.astype(np.int64))[..., None]
    return values.reshape(weights.shape)
