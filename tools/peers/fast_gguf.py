"""Writes a GGUF file of random weights without llama.cpp and in seconds: the dimensions as JSON (as
crates/bench-shapes has them), the type (bf16, q4_0 or q8_0), the file. For models of many gigabytes:
every matrix takes its bytes from one quantized pool of random numbers."""
import json
import math
import os
import sys

import gguf
import numpy as np

from gguf_layout import add_metadata, architecture, is_plain, tensors

TYPES = {"bf16": gguf.GGMLQuantizationType.BF16, "q4_0": gguf.GGMLQuantizationType.Q4_0,
         "q8_0": gguf.GGMLQuantizationType.Q8_0}
COLUMNS = 4096


def main():
    s, kind, out = json.loads(sys.argv[1]), TYPES[sys.argv[2]], sys.argv[3]
    pool = np.random.default_rng(0).standard_normal((4096, COLUMNS), dtype=np.float32)
    packed = gguf.quants.quantize(pool * np.float32(COLUMNS ** -0.5), kind).view(np.uint8).reshape(-1)
    per_row = packed.size // 4096
    f32 = gguf.GGMLQuantizationType.F32
    w = gguf.GGUFWriter(out + ".part", architecture(s))
    add_metadata(w, s)
    sizes = []
    for name, shape in tensors(s):
        count = math.prod(shape)
        if is_plain(name, shape):
            sizes.append((count, None))
            w.add_tensor_info(name, shape, np.dtype(np.float32), count * 4, f32)
        else:
            nbytes = count * per_row // COLUMNS
            sizes.append((count, nbytes))
            stored = gguf.quant_shape_to_byte_shape(shape, kind)
            w.add_tensor_info(name, stored, np.dtype(np.uint8), nbytes, kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for count, nbytes in sizes:
        if nbytes is None:
            w.write_tensor_data(1 + np.resize(pool, count) * np.float32(0.1))
        else:
            w.write_tensor_data(np.resize(packed, nbytes))
    w.close()
    os.rename(out + ".part", out)


main()
