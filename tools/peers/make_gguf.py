"""Writes a GGUF file of random weights: the dimensions as JSON (as crates/bench-shapes has
them), the type (q4_0, q4_k_m, q8_0 or bf16), the file. llama.cpp itself quantizes, from float16."""
import json
import os
import sys

import gguf
import llama_cpp
import numpy as np

from gguf_layout import add_metadata, architecture, is_plain, tensors

FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15, "bf16": 32}
# Of random numbers, from which every matrix takes some: speed does not depend on repetitions.
POOL = np.random.default_rng(0).standard_normal(1 << 24, dtype=np.float32)


def values(name, shape, at):
    """Norms near one; matrices of deviation 1 / sqrt(columns)."""
    count = int(np.prod(shape))
    some = np.resize(np.roll(POOL, at), count) if count > POOL.size else np.roll(POOL, at)[:count]
    if is_plain(name, shape):
        return (1 + some * np.float32(0.1)).reshape(shape)
    return (some * np.float32(shape[-1] ** -0.5)).astype(np.float16).reshape(shape)


def write_f16(s, path):
    w = gguf.GGUFWriter(path, architecture(s))
    add_metadata(w, s)
    all_tensors = list(tensors(s))
    for name, shape in all_tensors:
        dtype = np.dtype(np.float32 if is_plain(name, shape) else np.float16)
        w.add_tensor_info(name, shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for i, (name, shape) in enumerate(all_tensors):  # one in memory at a time
        w.write_tensor_data(values(name, shape, i * 4099))
    w.close()


def main():
    s, kind, out = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
    base, part = f"{out}.f16", f"{out}.part"
    write_f16(s, base)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[kind]
    failed = llama_cpp.llama_model_quantize(base.encode(), part.encode(), params) != 0
    os.remove(base)
    if failed:
        sys.exit(f"llama.cpp cannot quantize to {kind}")
    os.rename(part, out)


main()
