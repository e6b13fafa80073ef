"""What a GGUF file of a model's dimensions holds: tensors and metadata. The tensors are those that the dimensions'
JSON lists, under GGUF's names; what only some families have comes of the `config.json` that lies in it."""
import gguf

# What GGUF calls a family that has another name there.
ARCHITECTURES = {
    "mistral": "llama", "gemma3_text": "gemma3", "gemma4_text": "gemma4", "qwen3_moe": "qwen3moe",
    "qwen3_5_text": "qwen35", "gpt_oss": "gpt-oss",
}
# What is multiplied by and still not quantized: it is small, and what it decides is not.
PLAIN = ("ffn_gate_inp.weight", "ssm_conv1d.weight", "ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias")


def architecture(s):
    return ARCHITECTURES.get(s["family"], s["family"])


def is_plain(name, shape):
    """Whether a tensor is float32 in every file."""
    return len(shape) == 1 or name.endswith(PLAIN)


def tensors(s):
    """Name and shape (rows first) of every tensor."""
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[architecture(s)], s["layers"])
    for name, shape in s["tensors"]:
        # As mlx-lm calls stacks of experts, and what is a bias by another name.
        known = name.replace(".switch_mlp.", ".experts.").replace(".dt_bias", ".dt_proj.bias")
        found = names.get_name(known, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise SystemExit(f"GGUF has no name for {name}")
        # What is a parameter by itself is a weight there, but for the decay of a delta net.
        if not found.endswith((".weight", ".bias", "ssm_a")):
            found += ".weight"
        # A convolution of each channel for itself.
        yield found, tuple(size for size in shape if size != 1) or (1,)
    if s["family"] == "gemma4_text":
        # What proportional rotary embeddings divide by.
        yield "rope_freqs.weight", (s["config"]["global_head_dim"] // 2,)


def add_metadata(w, s):
    config = s["config"]
    # Of the families that have two of these, this is the one without SWA in its key.
    heads = {"ffn": s["ffn"], "head_dim": s["head_dim"], "rotated": s["head_dim"], "theta": s["rope_theta"]}
    match s["family"]:
        case "qwen3_moe":
            add_experts(w, config)
        case "gpt_oss":
            add_experts(w, config)
            add_yarn(w)
        case "qwen3_5_text":
            heads["rotated"] = int(s["head_dim"] * config["rope_parameters"]["partial_rotary_factor"])
            add_delta_nets(w, config)
        case "gemma4_text":
            full = config["global_head_dim"]
            heads = {"ffn": double_wide(config), "head_dim": full, "rotated": full, "theta": 1e6}
            add_gemma4(w, config)
    w.add_context_length(32768)
    w.add_embedding_length(s["hidden"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(heads["ffn"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv_heads"])
    w.add_key_length(heads["head_dim"])
    w.add_value_length(heads["head_dim"])
    w.add_rope_dimension_count(heads["rotated"])
    w.add_rope_freq_base(heads["theta"])
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


def add_experts(w, config):
    w.add_expert_count(config.get("num_experts") or config["num_local_experts"])
    w.add_expert_used_count(config["num_experts_per_tok"])
    w.add_expert_feed_forward_length(config.get("moe_intermediate_size") or config["intermediate_size"])


def add_yarn(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(32.0)
    w.add_rope_scaling_orig_ctx_len(4096)


def add_delta_nets(w, config):
    """Three layers of four are gated delta nets."""
    size, heads = config.get("linear_value_head_dim", 128), config["linear_num_value_heads"]
    w.add_ssm_conv_kernel(config.get("linear_conv_kernel_dim", 4))
    w.add_ssm_state_size(size)
    w.add_ssm_group_count(config["linear_num_key_heads"])
    w.add_ssm_time_step_rank(heads)
    w.add_ssm_inner_size(heads * size)
    w.add_full_attention_interval(config.get("full_attention_interval", 4))
    # Of text all positions are the same, so it does not matter which part is whose.
    w.add_rope_dimension_sections([11, 11, 10, 0])


def double_wide(config):
    """Widths of the MLPs: where caches are an earlier layer's they are twice as wide, if that is asked for."""
    layers, shared = config["num_hidden_layers"], config["num_kv_shared_layers"]
    wide = 2 if config.get("use_double_wide_mlp") else 1
    return [config["intermediate_size"] * (wide if at >= layers - shared else 1) for at in range(layers)]


def add_gemma4(w, config):
    """Windows with heads of one size, other layers with heads of another, the last ones with caches of earlier ones."""
    # Where nothing is said, every sixth layer and the last have no window.
    layers = config["num_hidden_layers"]
    plain = ["full_attention" if i % 6 == 5 or i + 1 == layers else "sliding_attention" for i in range(layers)]
    w.add_sliding_window_pattern([kind == "sliding_attention" for kind in config.get("layer_types") or plain])
    w.add_shared_kv_layers(config["num_kv_shared_layers"])
    w.add_embedding_length_per_layer_input(config["hidden_size_per_layer_input"])
    w.add_key_length_swa(config["head_dim"])
    w.add_value_length_swa(config["head_dim"])
    w.add_rope_dimension_count_swa(config["head_dim"])
    w.add_rope_freq_base_swa(1e4)
