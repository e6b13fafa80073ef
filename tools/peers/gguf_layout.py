"""What a GGUF file of a model's dimensions holds: tensors and metadata. The tensors are those that the
dimensions' JSON lists, under GGUF's names."""

ENDS = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
# Where there are norms behind attention and MLP, one of the names means another place.
SANDWICHED = PARTS | {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
                      "post_feedforward_layernorm": "post_ffw_norm"}
# What GGUF calls a family that has no name of its own there.
ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}


def architecture(s):
    return ARCHITECTURES.get(s["family"], s["family"])


def tensors(s):
    """Name and shape (rows first) of every tensor."""
    sandwiched = any("pre_feedforward_layernorm" in name for name, _ in s["tensors"])
    parts = SANDWICHED if sandwiched else PARTS
    for name, shape in s["tensors"]:
        path, kind = name.removeprefix("model.").rsplit(".", 1)
        if path.startswith("layers."):
            _, layer, part = path.split(".", 2)
            yield f"blk.{layer}.{parts[part]}.{kind}", tuple(shape)
        else:
            yield f"{ENDS[path]}.{kind}", tuple(shape)


def add_metadata(w, s):
    w.add_context_length(32768)
    w.add_embedding_length(s["hidden"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(s["ffn"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv_heads"])
    w.add_key_length(s["head_dim"])
    w.add_value_length(s["head_dim"])
    w.add_rope_dimension_count(s["head_dim"])
    w.add_rope_freq_base(s["rope_theta"])
    w.add_layer_norm_rms_eps(1e-6)
    if s["window"]:
        w.add_sliding_window(s["window"])
    if s["attention_softcap"]:
        w.add_attn_logit_softcapping(s["attention_softcap"])
    if s["logit_softcap"]:
        w.add_final_logit_softcapping(s["logit_softcap"])
    w.add_file_type(1)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list([f"t{i}" for i in range(s["vocab"])])
    w.add_token_types([1] * s["vocab"])
    w.add_token_merges(["t 1"])
    w.add_eos_token_id(5)
    w.add_bos_token_id(6)
