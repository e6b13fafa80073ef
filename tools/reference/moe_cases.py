"""The cases of Qwen3 MoE and Qwen2 MoE."""

from case import NO_BIAS, NO_HEAD, WINDOW_7, Case, Variant, in_v5, layers


def qwen3_moe(**changes) -> dict:
    """A Qwen3 MoE config in the hub's spelling, with the keys that Qwen3-30B-A3B has."""
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "decoder_sparse_step": 1,
        "eos_token_id": 0,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 24,
        "initializer_range": 0.02,
        "intermediate_size": 40,
        "max_position_embeddings": 40960,
        "max_window_layers": 48,
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": 16,
        "norm_topk_prob": True,
        "num_attention_heads": 4,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "output_router_logits": False,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 96,
    } | changes


def qwen2_moe(**changes) -> dict:
    """A Qwen2 MoE config in the hub's spelling, with the keys that Qwen1.5-MoE-A2.7B has."""
    return {
        "architectures": ["Qwen2MoeForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "decoder_sparse_step": 1,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 40,
        "max_position_embeddings": 8192,
        "max_window_layers": 21,
        "model_type": "qwen2_moe",
        "moe_intermediate_size": 16,
        "norm_topk_prob": False,
        "num_attention_heads": 2,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "output_router_logits": False,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": 24,
        "sliding_window": 8,
        "tie_word_embeddings": False,
        "transformers_version": "4.39.0.dev0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 96,
    } | changes


NOT_NORMED = Variant("shares as they are", {"norm_topk_prob": False})
#: What a softmax over the chosen experts alone gives, too.
NORMED = Variant("shares that are renormalised", {"norm_topk_prob": True})
ONE_LESS = Variant("one expert less", {"num_experts_per_tok": 1})
ONE_MORE = Variant("one expert more", {"num_experts_per_tok": 3})
UNGATED = Variant("a shared expert with a gate of zeros", zero="shared_expert_gate")
UNSHARED = Variant("no shared expert", zero="shared_expert.down_proj")
UNMIXED = Variant("experts that give nothing", zero="experts.down_proj")

WIDE = {"hidden_size": 128, "intermediate_size": 128, "moe_intermediate_size": 128, "head_dim": 32, "num_experts": 4}

QWEN3_MOE_CASES = [
    Case(
        "qwen3_moe-hub",
        qwen3_moe(),
        "renormalised shares; a matrix for each expert, as released",
        experts="hub",
        variants=(NOT_NORMED, ONE_LESS, ONE_MORE, UNMIXED),
    ),
    Case(
        "qwen3_moe-v5",
        in_v5(qwen3_moe(norm_topk_prob=False, num_experts_per_tok=3)),
        "shares as they are; num_local_experts and fused experts, as transformers 5 writes and has them",
        spelling="v5",
        variants=(NORMED, Variant("one expert less", {"num_experts_per_tok": 2}), UNMIXED),
    ),
    Case(
        "qwen3_moe-switch",
        qwen3_moe(attention_bias=True, tie_word_embeddings=True, num_experts=4, num_key_value_heads=1),
        "stacked experts, as mlx-lm stores them; tied head, attention_bias; four experts of which two have 20 tokens",
        experts="switch",
        variants=(NOT_NORMED, ONE_LESS, NO_BIAS),
    ),
    Case(
        "qwen3_moe-only",
        qwen3_moe(num_hidden_layers=3, mlp_only_layers=[1], num_experts=5),
        "a dense layer among sparse ones by mlp_only_layers",
        experts="hub",
        variants=(NOT_NORMED, ONE_LESS, Variant("a dense layer that gives nothing", zero="layers.1.mlp.down_proj")),
    ),
    Case(
        "qwen3_moe-step",
        qwen3_moe(num_hidden_layers=3, decoder_sparse_step=2, num_experts_per_tok=1, norm_topk_prob=False),
        "a sparse layer among dense ones by decoder_sparse_step; one expert, by its share",
        variants=(NORMED, Variant("two experts", {"num_experts_per_tok": 2})),
    ),
    Case(
        "qwen3_moe-window",
        qwen3_moe(use_sliding_window=True, sliding_window=8, max_window_layers=1),
        "a window of 8 in every layer, whatever max_window_layers says",
        experts="switch",
        variants=(WINDOW_7, Variant("use_sliding_window off", {"use_sliding_window": False})),
    ),
    Case(
        "qwen3_moe-defaults",
        {
            "architectures": ["Qwen3MoeForCausalLM"],
            "eos_token_id": 0,
            "hidden_size": 16,
            "intermediate_size": 24,
            "model_type": "qwen3_moe",
            "moe_intermediate_size": 8,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "vocab_size": 96,
        },
        "what may be left out is: experts (128), experts a token (8), norm_topk_prob (false), key-value heads (4), "
        "head_dim (hidden/heads), rope_theta (1e4), the separate head",
        variants=(
            NORMED,
            Variant("seven experts", {"num_experts_per_tok": 7}),
            Variant("another rope_theta", {"rope_theta": 1000000.0}),
        ),
    ),
    Case(
        "qwen3_moe-wide",
        qwen3_moe(**WIDE, mlp_only_layers=[0]),
        "bf16 weights whose rows are whole blocks of 128",
        dtype="bf16",
        experts="hub",
        length=30,
        variants=(NOT_NORMED,),
    ),
    Case(
        "qwen3_moe-f16",
        qwen3_moe(num_experts=4, mlp_only_layers=[0]),
        "f16 weights",
        dtype="f16",
        experts="switch",
        length=30,
        variants=(ONE_LESS,),
    ),
]

QWEN2_MOE_CASES = [
    Case(
        "qwen2_moe-hub",
        qwen2_moe(),
        "shares as they are; a shared expert with its gate; q, k and v biases that no key tells of",
        experts="hub",
        variants=(NORMED, ONE_LESS, UNGATED, UNSHARED, NO_BIAS, NO_HEAD),
    ),
    Case(
        "qwen2_moe-v5",
        in_v5(qwen2_moe(norm_topk_prob=True, qkv_bias=False, num_experts_per_tok=3)),
        "renormalised shares; qkv_bias false; fused experts",
        spelling="v5",
        variants=(NOT_NORMED, Variant("one expert less", {"num_experts_per_tok": 2}), UNGATED),
    ),
    Case(
        "qwen2_moe-layers",
        qwen2_moe(num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3], num_experts=4),
        "dense layers by decoder_sparse_step and mlp_only_layers; stacked experts",
        experts="switch",
        variants=(NORMED, ONE_LESS, UNGATED),
    ),
    Case(
        "qwen2_moe-window-hub",
        qwen2_moe(use_sliding_window=True, num_hidden_layers=3, max_window_layers=2),
        "use_sliding_window: a window of 8 in every other layer below max_window_layers",
        experts="hub",
        variants=(
            WINDOW_7,
            Variant("use_sliding_window off", {"use_sliding_window": False}),
            Variant("a window in layer 2, too", {"max_window_layers": 3}),
        ),
    ),
    Case(
        "qwen2_moe-window-v5",
        in_v5(qwen2_moe(use_sliding_window=True, layer_types=layers("fs"))),
        "the window by layer_types",
        spelling="v5",
        variants=(WINDOW_7, Variant("other layers", {"layer_types": layers("sf")})),
    ),
    Case(
        "qwen2_moe-bf16",
        qwen2_moe(num_experts=4, mlp_only_layers=[0]),
        "bf16 weights",
        dtype="bf16",
        experts="switch",
        length=30,
        variants=(UNGATED,),
    ),
]
