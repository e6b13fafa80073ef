"""Writes a GGUF file of random weights: the dimensions as JSON (as xtask/src/bench/shape.rs has
them), the type (q4_0, q4_k_m, q8_0 or bf16), the file. llama.cpp itself quantizes, from float16."""
import json
import os
import sys

import gguf
import llama_cpp
import numpy as np

FILE_TYPES = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15, "bf16": 32}
# Of random numbers, from which every matrix takes some: speed does not depend on repetitions.
POOL = np.random.default_rng(0).standard_normal(1 << 24, dtype=np.float32)


def tensors(s):
    """Name and shape (rows first) of every tensor."""
    q, kv = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    hidden, ffn = s["hidden"], s["ffn"]
    yield "token_embd", (s["vocab"], hidden)
    yield "output_norm", (hidden,)
    if not s["tied"]:
        yield "output", (s["vocab"], hidden)
    norms = [("attn_norm", hidden), ("ffn_norm", hidden), ("attn_q_norm", s["head_dim"]), ("attn_k_norm", s["head_dim"])]
    if s["family"] == "gemma3":
        norms += [("post_attention_norm", hidden), ("post_ffw_norm", hidden)]
    for i in range(s["layers"]):
        for name, width in norms:
            yield f"blk.{i}.{name}", (width,)
        for name, rows, columns in (("attn_q", q, hidden), ("attn_k", kv, hidden), ("attn_v", kv, hidden),
                                    ("attn_output", hidden, q), ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden),
                                    ("ffn_down", hidden, ffn)):
            yield f"blk.{i}.{name}", (rows, columns)


def add_metadata(w, s):
    w.add_context_length(32768)
    w.add_embedding_length(s["hidden"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(s["ffn"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv_heads"])
    w.add_key_length(s["head_dim"])
    w.add_value_length(s["head_dim"])
    w.add_rope_freq_base(1e6)
    w.add_layer_norm_rms_eps(1e-6)
    if s["window"]:
        w.add_sliding_window(s["window"])
    w.add_file_type(1)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list([f"t{i}" for i in range(s["vocab"])])
    w.add_token_types([1] * s["vocab"])
    w.add_token_merges(["t 1"])
    w.add_eos_token_id(5)
    w.add_bos_token_id(6)


def values(shape, at):
    """Norms near one; matrices of deviation 1 / sqrt(columns)."""
    count = int(np.prod(shape))
    some = np.resize(np.roll(POOL, at), count) if count > POOL.size else np.roll(POOL, at)[:count]
    if len(shape) == 1:
        return 1 + some * np.float32(0.1)
    return (some * np.float32(shape[1] ** -0.5)).astype(np.float16).reshape(shape)


def write_f16(s, path):
    w = gguf.GGUFWriter(path, s["family"])
    add_metadata(w, s)
    all_tensors = list(tensors(s))
    for name, shape in all_tensors:
        dtype = np.dtype(np.float32 if len(shape) == 1 else np.float16)
        w.add_tensor_info(f"{name}.weight", shape, dtype, int(np.prod(shape)) * dtype.itemsize)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for i, (_, shape) in enumerate(all_tensors):  # one in memory at a time
        w.write_tensor_data(values(shape, i * 4099))
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
