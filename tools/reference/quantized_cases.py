"""What the quantized fixtures cover: one entry a case."""

from dataclasses import dataclass, field

import gemma3n_cases as gemma3n
from gemma4_cases import LARGE, MOE, nested, text
from gemma_cases import gemma2
from gpt_oss_cases import gpt_oss
from hybrid_cases import qwen3_5, qwen3_5_moe, qwen3_next
from llama_cases import llama, mistral, qwen2
from logits_cases import gemma3, qwen3
from moe_cases import qwen2_moe, qwen3_moe


@dataclass(frozen=True)
class QuantizedCase:
    name: str
    config: dict
    bits: int
    group_size: int
    mode: str = "affine"
    dtype: str = "bf16"
    #: Path of a layer to its own parameters, or to False for a layer that stays dense.
    overrides: dict = field(default_factory=dict)
    #: Whether `quantization` names the mode; older checkpoints do not.
    names_mode: bool = True
    #: Whether the file has a head of its own, whatever the config says.
    own_head: bool = False


def small_qwen3(**changes) -> dict:
    return qwen3(hidden_size=64, intermediate_size=96, num_attention_heads=4, vocab_size=64) | changes


def wide_qwen3(**changes) -> dict:
    """Every input dimension a multiple of 128, for groups of that size."""
    sizes = {"hidden_size": 128, "intermediate_size": 128, "head_dim": 32, "num_key_value_heads": 1}
    return small_qwen3(num_hidden_layers=1, **sizes) | changes


def small_gemma3(**changes) -> dict:
    # Hidden is a square: mlx-lm rounds sqrt(hidden) to bfloat16 even when it runs in float32.
    sizes = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 32, "vocab_size": 64, "num_hidden_layers": 2}
    return gemma3(query_pre_attn_scalar=48, **sizes) | changes


def nested_gemma3() -> dict:
    # mlx-lm reads the vocabulary's size at the top level only.
    text = small_gemma3(model_type="gemma3_text", num_key_value_heads=2)
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "eos_token_id": [1, 3],
        "model_type": "gemma3",
        "text_config": text,
        "vocab_size": text["vocab_size"],
    }


#: Every input dimension a multiple of 64.
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}

MIXED = SMALL | {"moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2}

#: As mlx-lm's converter has them: routers of 8 bits.
ROUTERS = {f"model.layers.{i}.mlp.gate": {"group_size": 64, "bits": 8} for i in range(2)}

#: Every input dimension of theirs a multiple of 64.
HYBRID = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "num_hidden_layers": 2,
    "full_attention_interval": 2,
    "shared_expert_intermediate_size": 64,
}

NESTED_ROUTERS = {
    f"language_model.model.layers.{i}.mlp.{gate}": {"group_size": 64, "bits": 8}
    for i in range(2)
    for gate in ("gate", "shared_expert_gate")
}
#: mlx-lm's defaults for what a configuration leaves out are others, and so is its head of a nested model.
SMALL_GEMMA4 = {
    "head_dim": 32,
    "global_head_dim": 32,
    "hidden_size": 64,
    "hidden_size_per_layer_input": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "sliding_window": 64,
    "vocab_size": 64,
    "vocab_size_per_layer_input": 64,
}

#: As mlx-lm's converter has them for Gemma 4.
GEMMA4_ROUTERS = {
    f"{prefix}model.layers.{i}.router.proj": {"group_size": 64, "bits": 8}
    for i in range(2) for prefix in ("", "language_model.")
}  # fmt: skip

#: As mlx-lm has it, nested in any case.
SMALL_GEMMA3N = {
    "activation_sparsity_pattern": [0.5, 0.0, 0.0],
    "head_dim": 32,
    "hidden_size": 64,
    "hidden_size_per_layer_input": 32,
    "intermediate_size": [64, 128, 64],
    "laurel_rank": 32,
    "layer_types": gemma3n.layers("sfs"),
    "num_hidden_layers": 3,
    "num_kv_shared_layers": 1,
    "vocab_size": 64,
    "vocab_size_per_layer_input": 48,
}

#: mlx-lm clamps at 7 whatever the configuration says, and rounds YaRN's borders.
GPT_OSS = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_local_experts": 4,
    "vocab_size": 64,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
}

GPT_OSS_ROUTERS = {f"model.layers.{i}.mlp.router": {"group_size": 64, "bits": 8} for i in range(2)}

#: As the released model becomes where mlx-lm quantizes what is not packed: experts mxfp4, the others of 8 bits.
GPT_OSS_MXFP4 = {"model.embed_tokens": {"group_size": 64, "bits": 8}, "lm_head": {"group_size": 64, "bits": 8}} | {
    f"model.layers.{i}.{path}": {"group_size": 64, "bits": 8}
    for i in range(2)
    for path in ("mlp.router", *(f"self_attn.{name}_proj" for name in "qkvo"))
}

UNTIED = {"tie_word_embeddings": False}

CASES = [
    QuantizedCase("qwen3-q2-g32", small_qwen3(), 2, 32),
    QuantizedCase("qwen3-q2-g128", wide_qwen3(), 2, 128, dtype="f32"),
    QuantizedCase("qwen3-q3-g64", wide_qwen3(), 3, 64),
    QuantizedCase("qwen3-q3-g128", wide_qwen3(), 3, 128, dtype="f16"),
    QuantizedCase("qwen3-q4-g32", small_qwen3(), 4, 32, dtype="f32"),
    QuantizedCase("qwen3-q4-g64", wide_qwen3(), 4, 64, names_mode=False),
    QuantizedCase("qwen3-q4-g128", wide_qwen3(**UNTIED), 4, 128),
    QuantizedCase("qwen3-q5-g32", small_qwen3(), 5, 32),
    QuantizedCase("qwen3-q5-g128", wide_qwen3(), 5, 128, dtype="f32"),
    QuantizedCase("qwen3-q6-g64", wide_qwen3(), 6, 64),
    QuantizedCase("qwen3-q8-g32", small_qwen3(**UNTIED), 8, 32),
    QuantizedCase("qwen3-q8-g128", wide_qwen3(), 8, 128, dtype="f32"),
    QuantizedCase("qwen3-mxfp4", small_qwen3(), 4, 32, mode="mxfp4"),
    QuantizedCase("qwen3-mxfp8", small_qwen3(**UNTIED), 8, 32, mode="mxfp8", dtype="f32"),
    QuantizedCase("qwen3-nvfp4", small_qwen3(), 4, 16, mode="nvfp4"),
    QuantizedCase(
        "qwen3-mixed",
        small_qwen3(num_hidden_layers=3, **UNTIED),
        4,
        32,
        overrides={
            "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
            "model.layers.0.self_attn.v_proj": {"group_size": 64, "bits": 6, "mode": "affine"},
            "model.layers.1.mlp.up_proj": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
            "model.layers.1.self_attn.q_proj": False,
            "model.layers.2.self_attn.k_proj": False,
            "lm_head": {"group_size": 64, "bits": 8},
        },
    ),
    QuantizedCase(
        "qwen3-partial",
        small_qwen3(**UNTIED),
        4,
        16,
        mode="nvfp4",
        overrides={
            "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 4},
            "model.layers.0.self_attn.v_proj": {"bits": 6},
            "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8},
            "model.layers.1.mlp.down_proj": {"group_size": 32},
            "model.layers.1.self_attn.q_proj": {"mode": "mxfp8"},
            "lm_head": {"bits": 8},
        },
    ),
    QuantizedCase("gemma3-q2-g64", small_gemma3(), 2, 64),
    QuantizedCase("gemma3-q3-g32", small_gemma3(), 3, 32, dtype="f32"),
    QuantizedCase("gemma3-q4-g64", small_gemma3(), 4, 64, names_mode=False),
    QuantizedCase("gemma3-q5-g64", small_gemma3(), 5, 64),
    QuantizedCase("gemma3-q6-g32", small_gemma3(), 6, 32, dtype="f32"),
    QuantizedCase("gemma3-q8-g64", small_gemma3(), 8, 64),
    QuantizedCase("gemma3-mxfp4", small_gemma3(), 4, 32, mode="mxfp4", dtype="f32"),
    QuantizedCase("gemma3-mxfp8", small_gemma3(), 8, 32, mode="mxfp8"),
    QuantizedCase("gemma3-nvfp4", small_gemma3(), 4, 16, mode="nvfp4"),
    QuantizedCase(
        "gemma3-nested-mixed",
        nested_gemma3(),
        4,
        64,
        overrides={
            "language_model.model.embed_tokens": {"group_size": 32, "bits": 6},
            "language_model.model.layers.0.mlp.gate_proj": False,
            "language_model.model.layers.1.self_attn.o_proj": {"group_size": 64, "bits": 8},
            "language_model.model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 3},
        },
    ),
    QuantizedCase(
        "gemma3-nested-partial",
        nested_gemma3(),
        8,
        32,
        overrides={
            "language_model.model.embed_tokens": {"bits": 6},
            "language_model.model.layers.0.mlp.down_proj": {"group_size": 64},
            "language_model.model.layers.1.mlp.up_proj": {"mode": "mxfp4"},
            "language_model.lm_head": {"bits": 5},
        },
        own_head=True,
    ),
    QuantizedCase("qwen2-q4-g64", qwen2(**SMALL), 4, 64),
    QuantizedCase("llama-q8-g32", llama(**SMALL), 8, 32),
    QuantizedCase("mistral-mxfp4", mistral(**SMALL | {"sliding_window": 4096}), 4, 32, "mxfp4"),
    QuantizedCase("qwen3_moe-q4-g64", qwen3_moe(**MIXED), 4, 64, overrides=ROUTERS),
    QuantizedCase("qwen3_moe-q8-g32", qwen3_moe(**MIXED | {"norm_topk_prob": False}), 8, 32),
    QuantizedCase("qwen3_moe-mxfp4", qwen3_moe(**MIXED), 4, 32, mode="mxfp4", overrides=ROUTERS),
    QuantizedCase("qwen2_moe-q4-g32", qwen2_moe(**MIXED), 4, 32, dtype="f32"),
    QuantizedCase(
        "qwen2_moe-q4-g64",
        qwen2_moe(**MIXED | {"shared_expert_intermediate_size": 64}),
        4,
        64,
        overrides=ROUTERS | {f"model.layers.{i}.mlp.shared_expert_gate": {"group_size": 64, "bits": 8} for i in range(2)},
    ),
    # In bfloat16 mlx-lm is up to 0.6 away from float64 on these: no reference for that dtype.
    QuantizedCase("qwen3_next-q8-g32", qwen3_next(**MIXED | HYBRID), 8, 32, dtype="f32"),
    QuantizedCase("qwen3_5-q4-g32", qwen3_5(**SMALL | HYBRID), 4, 32, dtype="f32"),
    QuantizedCase("qwen3_5_moe-q4-g32", qwen3_5_moe(**MIXED | HYBRID), 4, 32, dtype="f32", overrides=NESTED_ROUTERS),
    QuantizedCase("gemma4-q4-g32", text(**SMALL_GEMMA4), 4, 32),
    QuantizedCase(
        "gemma4-nested-q8-g32",
        nested(text(**SMALL_GEMMA4 | {"sliding_window": 8})) | {"vocab_size": 64},
        8,
        32,
        overrides={
            "language_model.model.embed_tokens_per_layer": {"group_size": 32, "bits": 4},
            "language_model.model.per_layer_model_projection": False,
        },
    ),
    QuantizedCase(
        "gemma4-26b_moe-q4-g64",
        text(**SMALL_GEMMA4 | MOE | {"moe_intermediate_size": 64, "num_experts": 4}),
        4,
        64,
        overrides=GEMMA4_ROUTERS,
    ),
    QuantizedCase("gemma4-31b-mxfp4", text(**SMALL_GEMMA4 | LARGE), 4, 32, mode="mxfp4", dtype="f32"),
    QuantizedCase("gemma3n-q4-g32", gemma3n.nested(gemma3n.text(**SMALL_GEMMA3N)), 4, 32),
    QuantizedCase(
        "gemma3n-q8-g64",
        gemma3n.nested(gemma3n.text(**SMALL_GEMMA3N | {"laurel_rank": 6, "rms_norm_eps": 1e-3})),
        8,
        64,
        dtype="f32",
        overrides={
            "model.language_model.layers.0.altup.modality_router": False,
            "model.language_model.embed_tokens_per_layer": {"group_size": 32, "bits": 4},
        },
    ),
    QuantizedCase("gpt_oss-q4-g64", gpt_oss(**GPT_OSS), 4, 64, dtype="f32", overrides=GPT_OSS_ROUTERS),
    QuantizedCase("gpt_oss-q8-g32", gpt_oss(**GPT_OSS), 8, 32, dtype="f32"),
    QuantizedCase("gpt_oss-mxfp4", gpt_oss(**GPT_OSS), 4, 32, mode="mxfp4", overrides=GPT_OSS_MXFP4),
    # A window that 24 positions do not fill: mlx-lm has none.
    QuantizedCase("gemma2-q4-g64", gemma2(**SMALL | {"sliding_window": 64, "num_hidden_layers": 2}), 4, 64),
]
