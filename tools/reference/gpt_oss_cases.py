"""The cases of gpt-oss."""

import torch

from case import NO_BIAS, WINDOW_7, Case, Variant, in_v5, layers

#: So short that the borders of YaRN lie between the planes of a small head.
SHORT_YARN = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_type": "yarn",
    "truncate": False,
}


def gpt_oss(**changes) -> dict:
    """A gpt-oss config in the hub's spelling, with the keys that gpt-oss-20b has."""
    return {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": 2,
        "experts_per_token": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initial_context_length": 64,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "layer_types": layers("sf"),
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "num_local_experts": 5,
        "output_router_logits": False,
        "pad_token_id": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": SHORT_YARN,
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 8,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "transformers_version": "4.55.0.dev0",
        "use_cache": True,
        "vocab_size": 96,
    } | changes


#: What the hub's config says of packed experts.
MXFP4 = {
    "quantization_config": {
        "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
        "quant_method": "mxfp4",
    }
}  # fmt: skip


def yarn(**changes) -> dict:
    return {"rope_scaling": SHORT_YARN | changes}


def one_behind_the_other(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """What a reader has who takes the first half for gates."""
    if "experts.gate_up_proj" not in name:
        return tensor
    return torch.stack(tensor.chunk(2, dim=-1), dim=-1).flatten(-2)


def of_each(model, name: str, function) -> None:
    for module in model.modules():
        if hasattr(module, name):
            setattr(module, name, function.__get__(module))


def of_routers(model, function) -> None:
    for module in model.modules():
        if type(module).__name__ == "GptOssTopKRouter":
            module.forward = function.__get__(module)


def softmax_of_all(self, x):
    logits = torch.nn.functional.linear(x, self.weight, self.bias)
    shares, chosen = torch.topk(logits.softmax(dim=-1), self.top_k, dim=-1)
    return logits, shares, chosen


def gate(of_gate: bool = True, of_up: bool = True, added: float = 1):
    """A gate with one thing wrong: whether each is clamped, and what is added to up."""

    def apply(self, gate_up):
        gate, up = gate_up[..., ::2], gate_up[..., 1::2]
        gate = gate.clamp(max=self.limit) if of_gate else gate
        up = up.clamp(min=-self.limit, max=self.limit) if of_up else up
        return (up + added) * gate * torch.sigmoid(gate * self.alpha)

    return lambda model: of_each(model, "_apply_gate", apply)


NO_SINK = Variant(
    "no sinks", change=lambda name, tensor: torch.full_like(tensor, -1e4) if "sinks" in name else tensor
)
ZERO_SINK = Variant("sinks of zero", zero="sinks")
HALVES = Variant("gates before ups", change=one_behind_the_other)
NO_CLAMP = Variant("nothing clamped", {"swiglu_limit": 1e6})
UP_ALONE = Variant("gates not clamped", patch=gate(of_gate=False))
GATE_ALONE = Variant("ups not clamped", patch=gate(of_up=False))
NOT_ONE_MORE = Variant("ups not one more", patch=gate(added=0))
SILU = Variant("a sigmoid of the gate itself", {"swiglu_alpha": 1.0})
SOFTMAX_OF_ALL = Variant("a softmax over all experts", patch=lambda model: of_routers(model, softmax_of_all))
ONE_LESS = Variant("one expert less", {"num_experts_per_tok": 1})
TRUNCATED = Variant("borders of YaRN that are rounded", yarn(truncate=True))
NO_FACTOR = Variant("no attention factor", yarn(attention_factor=1.0))
NO_YARN = Variant("no YaRN", {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0}})
WINDOW_9 = Variant("a window of 9", {"sliding_window": 9})
OTHER_LAYERS = Variant("windows in the other layer", {"layer_types": layers("fs")})

GPT_OSS_CASES = [
    Case(
        "gpt_oss-hub",
        gpt_oss(**MXFP4),
        "experts in mxfp4, as released; sinks, windows by turns, YaRN whose borders are not rounded, clamped gates",
        experts="blocks",
        variants=(
            NO_SINK, ZERO_SINK, HALVES, NO_CLAMP, UP_ALONE, GATE_ALONE, NOT_ONE_MORE, SILU, SOFTMAX_OF_ALL, ONE_LESS,
            TRUNCATED, NO_FACTOR, NO_YARN, WINDOW_7, WINDOW_9, OTHER_LAYERS, NO_BIAS,
        ),
    ),
    Case(
        "gpt_oss-v5",
        in_v5(
            gpt_oss(hidden_size=24, intermediate_size=16, swiglu_limit=1.5, swiglu_alpha=1.2, num_experts_per_tok=3),
            **SHORT_YARN | {"truncate": True},
        )
        | {"attention_bias": False},
        "unpacked experts with columns before rows; no biases of attention, rounded YaRN, another clamp",
        spelling="v5",
        variants=(NO_SINK, HALVES, NO_CLAMP, Variant("the released alpha", {"swiglu_alpha": 1.702}), SOFTMAX_OF_ALL),
    ),
    Case(
        "gpt_oss-switch",
        gpt_oss(hidden_size=24, intermediate_size=16, num_local_experts=4, layer_types=layers("ff"),
                rope_scaling=SHORT_YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}),
        "stacked experts, as mlx-lm stores them; no windows, YaRN's mscale; four experts of which two have 20 tokens",
        experts="switch",
        variants=(NO_SINK, HALVES, ONE_LESS, NO_FACTOR),
    ),
    Case(
        "gpt_oss-defaults",
        {
            "architectures": ["GptOssForCausalLM"],
            "eos_token_id": 2,
            "hidden_size": 16,
            "intermediate_size": 8,
            "model_type": "gpt_oss",
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "num_local_experts": 6,
            "vocab_size": 96,
        },
        "what may be left out is: head_dim (64), a window of 128 in every other layer from the first on, YaRN "
        "(a factor of 32 over 4096), four experts a token, the clamp",
        length=150,
        variants=(
            Variant("a window of 127", {"sliding_window": 127}, least=1e-3),
            Variant("windows in the other layer", {"layer_types": layers("fs")}, least=1e-3),
            Variant("no YaRN", {"rope_parameters": {"rope_type": "default", "rope_theta": 150000.0}}),
            Variant("another rope_theta", {"rope_theta": 10000.0, "rope_scaling": SHORT_YARN}),
            Variant("three experts", {"num_experts_per_tok": 3}),
            Variant("a clamp at 6", {"swiglu_limit": 6.0}, least=1e-3),
        ),
    ),
    Case(
        "gpt_oss-bf16",
        gpt_oss(**MXFP4, num_local_experts=4),
        "bf16 weights beside experts in mxfp4",
        dtype="bf16",
        experts="blocks",
        length=30,
        variants=(NO_SINK, HALVES),
    ),
]
