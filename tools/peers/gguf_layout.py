"""What a GGUF file of a model's dimensions holds: tensors and metadata."""


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
