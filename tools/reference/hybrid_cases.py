"""The cases of Qwen3-Next, Qwen3.5 and Qwen3.5 MoE: models with gated delta nets."""

import torch

from case import NO_BIAS, THETA, YARN, Case, Variant


def norms_as_stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Norms that multiply by what is stored, and not by one more."""
    centered = name.removesuffix(".weight").endswith("norm") and "linear_attn" not in name
    return tensor - 1 if centered else tensor


def rounded_decay(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Decay in bfloat16."""
    return tensor.bfloat16().to(tensor.dtype) if name.endswith(("A_log", "dt_bias")) else tensor


def shifted(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A convolution that sees one position further back."""
    return torch.roll(tensor, -1, -1) if name.endswith("conv1d.weight") else tensor


def ungated(head_dim: int):
    """Attention whose gates are one: the sigmoid of zero, twice."""

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name.endswith("self_attn.q_proj.weight"):
            by_head = tensor.clone().reshape(-1, 2, head_dim, tensor.shape[-1])
            by_head[:, 1] = 0
            return by_head.reshape(tensor.shape)
        return 2 * tensor if name.endswith("self_attn.o_proj.weight") else tensor

    return change


VARIANTS = (
    Variant("norms as stored", change=norms_as_stored),
    Variant("decay in bfloat16", change=rounded_decay, least=5e-4),
    Variant("queries and keys of any length", replace={"l2norm": lambda x, dim=-1, eps=1e-6: x}),
    Variant("no gates", change=ungated(16)),
    Variant("a convolution off by one", change=shifted),
    Variant("no step", zero="dt_bias"),
    Variant("heads rotated whole", {"partial_rotary_factor": 1.0, "rope_parameters": None}),
)

#: What such a family has of a draft head.
DRAFTS = {
    "mtp.fc.weight": (24, 48),
    "mtp.layers.0.self_attn.q_proj.weight": (128, 24),
    "mtp.norm.weight": (24,),
}

#: Small sizes that all have.
SIZES = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": 0,
    "head_dim": 16,
    "hidden_act": "silu",
    "hidden_size": 24,
    "initializer_range": 0.02,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 12,
    "max_position_embeddings": 262144,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "use_cache": True,
    "vocab_size": 96,
    "full_attention_interval": 2,
}

EXPERTS = {
    "moe_intermediate_size": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
    "shared_expert_intermediate_size": 12,
}

ROPE = {
    "mrope_interleaved": True,
    "mrope_section": [1, 1, 0],
    "partial_rotary_factor": 0.5,
    "rope_theta": 10000000,
    "rope_type": "default",
}

VISION = {
    "depth": 1,
    "hidden_size": 8,
    "in_channels": 3,
    "intermediate_size": 8,
    "num_heads": 2,
    "num_position_embeddings": 4,
    "out_hidden_size": 24,
    "patch_size": 2,
    "spatial_merge_size": 1,
    "temporal_patch_size": 1,
}


def qwen3_next(**changes) -> dict:
    """A Qwen3-Next config in the hub's spelling, with the keys that Qwen3-Next-80B-A3B has."""
    own = {
        "architectures": ["Qwen3NextForCausalLM"],
        "decoder_sparse_step": 1,
        "intermediate_size": 40,
        "mlp_only_layers": [],
        "model_type": "qwen3_next",
        "norm_topk_prob": True,
        "partial_rotary_factor": 0.25,
        "rope_scaling": None,
        "rope_theta": 10000000,
        "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0",
    }
    return SIZES | EXPERTS | own | changes


def text(model_type: str, **changes) -> dict:
    """The part of a Qwen3.5 config that is of text."""
    sizes = {k: v for k, v in SIZES.items() if k != "full_attention_interval"} | changes
    interval = sizes.pop("full_attention_interval", 2)
    kinds = ["linear_attention", "full_attention"]
    layers = [kinds[(i + 1) % interval == 0] for i in range(sizes["num_hidden_layers"])]
    own = {
        "attn_output_gate": True,
        "full_attention_interval": interval,
        "layer_types": layers,
        "mamba_ssm_dtype": "float32",
        "model_type": model_type,
        "mtp_num_hidden_layers": 1,
        "rope_parameters": ROPE,
        "tie_word_embeddings": True,
    }
    return own | sizes


def nested(kind: str, architecture: str, config: dict) -> dict:
    """The whole config, with a vision tower."""
    return {
        "architectures": [architecture],
        "image_token_id": 90,
        "model_type": kind,
        "text_config": config,
        "tie_word_embeddings": config["tie_word_embeddings"],
        "transformers_version": "4.57.0.dev0",
        "video_token_id": 91,
        "vision_config": VISION | {"model_type": f"{kind}_vision", "out_hidden_size": config["hidden_size"]},
        "vision_end_token_id": 92,
        "vision_start_token_id": 93,
    }


def qwen3_5(**changes) -> dict:
    """A Qwen3.5 config in the hub's spelling, with the keys that Qwen3.5-0.8B has."""
    config = text("qwen3_5_text", **{"intermediate_size": 40} | changes)
    return nested("qwen3_5", "Qwen3_5ForConditionalGeneration", config)


def qwen3_5_moe(**changes) -> dict:
    """A Qwen3.5 MoE config in the hub's spelling, with the keys that Qwen3.5-35B-A3B has."""
    config = text("qwen3_5_moe_text", **EXPERTS | {"tie_word_embeddings": False} | changes)
    return nested("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", config)


QWEN3_NEXT_CASES = [
    Case(
        "qwen3_next-hub",
        qwen3_next(),
        "experts each by itself as released, a draft head to leave out",
        experts="hub",
        extra=DRAFTS,
        variants=(*VARIANTS, THETA),
    ),
    Case(
        "qwen3_next-only",
        qwen3_next(mlp_only_layers=[1], attention_bias=True, linear_num_value_heads=2, linear_conv_kernel_dim=3)
        | {"partial_rotary_factor": 1.0},
        "an MLP in a layer, biases, as many value heads as key heads, a convolution of three positions, heads "
        "rotated whole",
        experts="switch",
        variants=(NO_BIAS,),
    ),
    Case(
        "qwen3_next-yarn",
        qwen3_next(rope_scaling=YARN),
        "a rotation of a part of each head, stretched: the features behind it have no factor",
        variants=(
            Variant("no scaling", {"rope_scaling": None, "rope_parameters": None}),
            Variant("no attention factor", {"rope_scaling": YARN | {"attention_factor": 1.0}}),
        ),
    ),
]

QWEN3_5_CASES = [
    Case(
        "qwen3_5-hub",
        qwen3_5(),
        "nested, a vision tower and a draft head to leave out",
        extra=DRAFTS,
        variants=VARIANTS[:-1],
    ),
    Case(
        "qwen3_5-text",
        text("qwen3_5_text", intermediate_size=40, num_hidden_layers=4, tie_word_embeddings=False)
        | {"layer_types": None, "full_attention_interval": 4},
        "the text model alone, every fourth layer with attention by its interval, a separate head",
        layout="indexed",
        variants=(Variant("every second layer", {"full_attention_interval": 2, "layer_types": None}),)[:0],
    ),
    Case(
        "qwen3_5-long",
        text("qwen3_5_text", intermediate_size=32, vocab_size=48),
        "260 positions: several chunks of the gated delta rule, checkpoints of prompt and answer",
        length=260,
        prompt=210,
        greedy=50,
        variants=(Variant("decay in bfloat16", change=rounded_decay, least=5e-4),),
    ),
    Case(
        "qwen3_5-wide",
        text("qwen3_5_text", intermediate_size=24, vocab_size=48, hidden_size=16, num_hidden_layers=2)
        | {
            "linear_num_key_heads": 1,
            "linear_num_value_heads": 2,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 64,
        },
        "heads of gated delta nets as wide as kernels for GPUs want them, more than a chunk of tokens",
        length=80,
        prompt=70,
        greedy=10,
        variants=(Variant("decay in bfloat16", change=rounded_decay, least=5e-5),),
    ),
    Case(
        "qwen3_5-yarn",
        text("qwen3_5_text", intermediate_size=40, rope_parameters=ROPE | YARN),
        "a rotation of a part of each head, stretched, as the model cards advise for long texts",
        variants=(
            Variant("no scaling", {"rope_parameters": ROPE}),
            Variant("no attention factor", {"rope_parameters": ROPE | YARN | {"attention_factor": 1.0}}),
        ),
    ),
    Case(
        "qwen3_5-bf16",
        text("qwen3_5_text", intermediate_size=40, num_hidden_layers=2, hidden_size=32),
        "bf16 weights",
        dtype="bf16",
    ),
]

QWEN3_5_MOE_CASES = [
    Case(
        "qwen3_5_moe-hub",
        qwen3_5_moe(),
        "nested, fused experts as released, a vision tower and a draft head to leave out",
        extra=DRAFTS,
        variants=VARIANTS[:-1],
    ),
]
