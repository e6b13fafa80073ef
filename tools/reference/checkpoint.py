"""Checkpoints of random weights, as a model directory on the hub would hold them.

A reference is only as good as the weights that it runs on. transformers'
default initialisation (norms of ones, everything else near zero) lets a wrong
norm, mask or rotary embedding pass unseen: attention is all but uniform and the
logits all but equal. So every tensor is drawn here at a scale that makes
attention peaked and the logits spread out, norms and biases included.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    AutoConfig, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3ForConditionalGeneration, Gemma3nForCausalLM, Gemma4ForCausalLM,
    Gemma4ForConditionalGeneration, Gemma4UnifiedForCausalLM, Gemma4UnifiedForConditionalGeneration, GemmaForCausalLM,
    GptOssForCausalLM, LlamaForCausalLM, MinistralForCausalLM, MistralForCausalLM, Qwen2ForCausalLM,
    Qwen2MoeForCausalLM, Qwen3_5ForCausalLM, Qwen3_5ForConditionalGeneration, Qwen3_5MoeForCausalLM,
    Qwen3_5MoeForConditionalGeneration, Qwen3ForCausalLM, Qwen3MoeForCausalLM, Qwen3NextForCausalLM,
    VaultGemmaForCausalLM,
)  # fmt: skip

MODEL_CLASSES = {
    "qwen2": Qwen2ForCausalLM,
    "qwen3": Qwen3ForCausalLM,
    "qwen2_moe": Qwen2MoeForCausalLM,
    "qwen3_moe": Qwen3MoeForCausalLM,
    "qwen3_next": Qwen3NextForCausalLM,
    "qwen3_5_text": Qwen3_5ForCausalLM,
    "qwen3_5": Qwen3_5ForConditionalGeneration,
    "qwen3_5_moe_text": Qwen3_5MoeForCausalLM,
    "qwen3_5_moe": Qwen3_5MoeForConditionalGeneration,
    "llama": LlamaForCausalLM,
    "mistral": MistralForCausalLM,
    # What a Mistral with layer_types is to transformers.
    "ministral": MinistralForCausalLM,
    "gemma": GemmaForCausalLM,
    "gemma2": Gemma2ForCausalLM,
    "gemma3_text": Gemma3ForCausalLM,
    "gemma3": Gemma3ForConditionalGeneration,
    "gemma3n_text": Gemma3nForCausalLM,
    "gemma4_text": Gemma4ForCausalLM,
    "gemma4": Gemma4ForConditionalGeneration,
    "gemma4_unified_text": Gemma4UnifiedForCausalLM,
    "gemma4_unified": Gemma4UnifiedForConditionalGeneration,
    "vaultgemma": VaultGemmaForCausalLM,
    "gpt_oss": GptOssForCausalLM,
}

#: The families with gated delta nets.
HYBRIDS = ("qwen3_next", "qwen3_5", "qwen3_5_moe")

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
#: How config.json calls them.
DTYPE_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}

#: What a norm multiplies by, on average, where that is not one. Attention scores
#: have the variance of (q_norm * k_norm)^2, and without these norms that of
#: (1.3 * input_layernorm)^4: Gemma 2's must be large enough for its cap to bite.
#: Gemma 2 and 3 norm what a layer adds, and attention must outweigh the MLP, or
#: the next token hangs on the last one alone.
NORM_MEANS = {
    "qwen2": {"norm": 1.4},
    "qwen3": {"q_norm": 1.2, "k_norm": 1.2, "norm": 1.4},
    "qwen2_moe": {"norm": 1.4},
    "qwen3_moe": {"q_norm": 1.2, "k_norm": 1.2, "norm": 1.4},
    "qwen3_next": {"q_norm": 1.2, "k_norm": 1.2, "norm": 1.4},
    "qwen3_5": {"q_norm": 1.2, "k_norm": 1.2, "norm": 1.4},
    "qwen3_5_moe": {"q_norm": 1.2, "k_norm": 1.2, "norm": 1.4},
    "llama": {"norm": 1.4},
    "mistral": {"norm": 1.4},
    "ministral": {"norm": 1.4},
    "gemma": {"norm": 4.0},
    "gemma2": {
        "input_layernorm": 1.25,
        "post_attention_layernorm": 1.4,
        "post_feedforward_layernorm": 0.8,
        "norm": 4.0,
    },
    "gemma3": {
        "q_norm": 1.2,
        "k_norm": 1.2,
        "post_attention_layernorm": 1.4,
        "post_feedforward_layernorm": 0.8,
        "norm": 4.0,
    },
    # Scores are not divided by the root of the head's width.
    "gemma3n": {
        "q_norm": 0.65,
        "k_norm": 0.65,
        "post_attention_layernorm": 1.4,
        "post_feedforward_layernorm": 0.8,
        "post_laurel_norm": 0.6,
        "post_per_layer_input_norm": 0.8,
        "norm": 4.0,
    },
    "gemma4": {
        "q_norm": 0.65,
        "k_norm": 0.65,
        "post_attention_layernorm": 1.4,
        "post_feedforward_layernorm": 0.8,
        "post_per_layer_input_norm": 0.8,
        "norm": 4.0,
    },
    "vaultgemma": {"input_layernorm": 1.25, "norm": 4.0},
    "gpt_oss": {"norm": 1.4},
}
NORM_MEANS["gemma4_unified"] = NORM_MEANS["gemma4"]

#: The length of an embedding row. Gemma multiplies it by sqrt(hidden), and with a
#: tied head a long row answers every token with itself.
EMBEDDING_LENGTHS = {
    "qwen2": 0.9, "qwen3": 0.9, "qwen2_moe": 0.9, "qwen3_moe": 0.9, "llama": 0.9, "mistral": 0.9, "ministral": 0.9,
    "qwen3_next": 0.9, "qwen3_5": 0.9, "qwen3_5_moe": 0.9,
    "gemma": 0.3, "gemma2": 0.3, "gemma3": 0.3, "gemma3n": 0.3, "gemma4": 0.3, "gemma4_unified": 0.3,
    "vaultgemma": 0.3, "gpt_oss": 0.9,
}  # fmt: skip


def rng_for(*key) -> np.random.Generator:
    """A generator that depends on `key` alone, not on the order of the cases."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def draw(name: str, shape, rng: np.random.Generator, family: str) -> np.ndarray:
    """Random values for the tensor `name`, in float32."""
    values = rng.standard_normal(shape)
    leaf = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if "norm" in leaf:
        mean = NORM_MEANS[family].get(leaf, 1.0)
        # The first Gemmas multiply by 1 + weight, and so do hybrids but in gated norms.
        centered = "gemma" in family and family not in ("gemma3n", "gemma4", "gemma4_unified")
        centered |= family in HYBRIDS and "linear_attn" not in name
        values = mean * (1 + 0.25 * values) - centered
        if leaf == "router_norm":
            # Its router is given a hidden size-th of that.
            values = values * shape[0]
    elif leaf == "correct_output_scale":
        values = 1.5 * (1 + 0.4 * values)
    elif leaf in ("prediction_coefs", "correction_coefs"):
        values = 0.15 * values
    elif leaf == "scale":
        # Of a norm that is called a router.
        values = 1.5 * (1 + 0.25 * values) * np.sqrt(shape[0])
    elif leaf == "per_expert_scale":
        values = 1 + 0.4 * values
    elif leaf == "layer_scalar":
        values = 0.8 * (1 + 0.2 * values)
    elif leaf == "sinks":
        values = 1 + values
    elif name.endswith((".bias", "_bias")):
        values = 0.4 * values
    elif family == "gpt_oss" and ".experts." in name:
        # [E, in, out]; gate and up are large enough to be clamped.
        values = values * ((2.5 if "gate_up" in leaf else 0.2) * 1.3 / np.sqrt(shape[1]))
    elif leaf == "embed_tokens_per_layer":
        # It is multiplied by the root of a layer's width, and added to what is normalized.
        values = values / np.sqrt(8)
    elif leaf in ("embed_tokens", "lm_head"):
        values = values * (EMBEDDING_LENGTHS[family] / np.sqrt(shape[-1]))
    else:
        # Stacks of experts are [E, out, in].
        values = values * (1.3 / np.sqrt(shape[-1] if ".experts." in name else np.prod(shape[1:])))
    return values.astype(np.float32)


def text_alone(config) -> tuple:
    """The config that stands for `config`, and what its tensors' names have more in the file: of a nested Gemma 3n
    the text model, since transformers makes the encoders with another library."""
    if config.model_type == "gemma3n":
        return config.text_config, ("model.language_model.", "model.")
    return config, ("", "")


def random_state_dict(config_path: Path, seed, dtype: torch.dtype, own_head: bool = False) -> dict[str, torch.Tensor]:
    """Weights for the config in `config_path`, named as in the model's state_dict.

    With `own_head` there is a head of other values even where the config ties it to the embedding.
    """
    config, (stored, named) = text_alone(AutoConfig.from_pretrained(config_path))
    with torch.device("meta"):
        model = MODEL_CLASSES[config.model_type](config)
    family = config.model_type.removesuffix("_text")
    tied = config.get_text_config().tie_word_embeddings
    rng = rng_for(seed, "weights")
    state = {}
    for name, parameter in sorted(model.state_dict().items()):
        if name == "lm_head.weight" and tied and not own_head:
            continue
        values = torch.from_numpy(draw(name, tuple(parameter.shape), rng, family)).to(dtype)
        state[name.replace(named, stored, 1) if stored else name] = values
    return state


def save_weights(directory: Path, state: dict[str, torch.Tensor], layout: str) -> None:
    """Writes `state`; layout is `single`, `indexed` (shards and an index) or `unindexed`."""
    metadata = {"format": "pt"}
    if layout == "single":
        save_file(state, directory / "model.safetensors", metadata)
        return
    names, count = sorted(state), 3
    per_shard = -(-len(names) // count)
    weight_map = {}
    for shard in range(count):
        file = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        part = names[shard * per_shard : (shard + 1) * per_shard]
        save_file({name: state[name] for name in part}, directory / file, metadata)
        weight_map |= dict.fromkeys(part, file)
    if layout == "indexed":
        total = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
