"""What a case of logits.py is, and what the families' cases share."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    """A change that must move the logits; if it does not, the case tests nothing.

    `config` overrides keys of the (text) config; tensors with `zero` in their
    name are set to zero; `patch` changes transformers' model.
    """

    label: str
    config: dict = field(default_factory=dict)
    zero: str = ""
    #: What becomes of each tensor, by its name.
    change: Callable | None = None
    patch: Callable | None = None
    #: Functions of the family's module of transformers that others stand in for.
    replace: dict = field(default_factory=dict)
    #: What it must change, relative to the largest logit: 100 times the tests' tolerance,
    #: or 5 times where the two models are too much alike for that.
    least: float = 0.01


@dataclass(frozen=True)
class Case:
    name: str
    config: dict
    covers: str
    spelling: str = "hub"
    dtype: str = "f32"
    layout: str = "single"
    #: How the names of the state_dict are stored: "same", "hub" (`language_model.model.`,
    #: as released and as mlx-community has them) or "v5" (`model.language_model.`).
    names: str = "same"
    #: How the experts of a mixture are stored (experts.py).
    experts: str = "fused"
    #: Tensors that are in the file and not used, by name.
    extra: dict = field(default_factory=dict)
    #: Whether the file has a head of its own where the config says that the embedding is the head.
    own_head: bool = False
    length: int = 40
    prompt: int = 24
    greedy: int = 24
    variants: tuple[Variant, ...] = ()


def layers(pattern: str) -> list[str]:
    """`layer_types` from a string: s for sliding, f for full."""
    return [{"s": "sliding_attention", "f": "full_attention"}[letter] for letter in pattern]


def in_v5(config: dict, **rope_parameters) -> dict:
    """`config`, in the hub's spelling, for transformers 5, which has no `rope_theta` at the top."""
    hub_only = ("architectures", "cache_implementation", "rope_scaling", "rope_theta", "transformers_version")
    rope = {"rope_type": "default", "rope_theta": float(config["rope_theta"])} | rope_parameters
    return {key: value for key, value in config.items() if key not in hub_only} | {"rope_parameters": rope}


THETA = Variant("another rope_theta", {"rope_theta": 10000})
THETA_1E6 = Variant("another rope_theta", {"rope_theta": 1000000})
NO_HEAD = Variant("a head of zeros", zero="lm_head")
NO_SCALING = Variant("no rope_scaling", {"rope_scaling": None})
NO_BIAS = Variant("biases of zero", zero="bias")
NO_WINDOW = Variant("no window", {"sliding_window": 4096})
WINDOW_7 = Variant("a window of 7", {"sliding_window": 7})
SCALE = Variant("scores scaled by head_dim", {"query_pre_attn_scalar": 16})
EPSILON = Variant("epsilon 1e-6", {"rms_norm_eps": 1e-6})

LLAMA3 = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 128,
    "rope_type": "llama3",
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
