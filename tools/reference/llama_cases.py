"""The cases of Llama and of the two families that differ little from it: Qwen2 and Mistral."""

from case import (
    EPSILON, LLAMA3, NO_BIAS, NO_SCALING, THETA, THETA_1E6, WINDOW_7, YARN, Case, Variant, in_v5, layers,
)  # fmt: skip


def qwen2(**changes) -> dict:
    """A Qwen2 config in the hub's spelling, with the keys that Qwen2.5-0.5B has: no head_dim, nothing of biases."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "max_position_embeddings": 32768,
        "max_window_layers": 1,
        "model_type": "qwen2",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 8,
        "tie_word_embeddings": True,
        "transformers_version": "4.43.1",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 96,
    } | changes


def llama(**changes) -> dict:
    """A Llama config in the hub's spelling, with the keys that Llama-3.2-1B-Instruct has."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": [1, 2, 3],
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "max_position_embeddings": 2048,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": LLAMA32,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "transformers_version": "4.45.0.dev0",
        "use_cache": True,
        "vocab_size": 96,
    } | changes


def llama2(**changes) -> dict:
    """The same with the keys that Llama-2-7b has in its oldest form: no rope_theta, no num_key_value_heads."""
    newer = (
        "attention_bias", "attention_dropout", "head_dim", "mlp_bias", "num_key_value_heads", "rope_scaling",
        "rope_theta",
    )  # fmt: skip
    config = llama(bos_token_id=1, eos_token_id=2, tie_word_embeddings=False, transformers_version="4.31.0.dev0")
    return {key: value for key, value in config.items() if key not in newer} | changes


def mistral(**changes) -> dict:
    """A Mistral config in the hub's spelling, with the keys that Mistral-7B-v0.1 has."""
    return {
        "architectures": ["MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 8,
        "tie_word_embeddings": False,
        "transformers_version": "4.34.0.dev0",
        "use_cache": True,
        "vocab_size": 96,
    } | changes


#: As Llama 3.2 has it. With a base of 500000 and pairs of 16, waves of 6, 32 and more than 64 positions: each band.
LLAMA32 = LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 64}
#: As Qwen2.5's model cards have it.
YARN_QWEN2 = {"factor": YARN["factor"], "original_max_position_embeddings": 256, "type": "yarn"}
LINEAR = {"type": "linear", "factor": 4.0}

WIDE = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1}

WINDOW_OFF = Variant("no window", {"sliding_window": None})
WINDOW_ON = Variant("a window of 8", {"sliding_window": 8})


def zeros(*names: str) -> tuple[Variant, ...]:
    """One variant a name: all biases zero that bear it."""
    return tuple(Variant(f"{name} biases of zero", zero=f"{name}.bias") for name in names)


def rope_of(config: dict, label: str, **changes) -> Variant:
    """A variant of a config in `v5` spelling: other entries in rope_parameters."""
    return Variant(label, {"rope_parameters": config["rope_parameters"] | changes})


QWEN2_V5 = in_v5(qwen2(use_sliding_window=True, max_window_layers=0, num_hidden_layers=3, layer_types=layers("sfs")))
LLAMA_V5 = in_v5(llama(), **LLAMA32)
MISTRAL_V5 = in_v5(mistral(head_dim=16, num_attention_heads=4, rope_theta=1000000.0))

QWEN2_CASES = [
    Case(
        "qwen2-tied",
        qwen2(),
        "tied head; no head_dim: hidden/heads; biases that no key tells of; a window that use_sliding_window denies",
        variants=(
            NO_BIAS,
            THETA,
            Variant("sliding_window whatever use_sliding_window says", {"use_sliding_window": True}),
        ),
    ),
    Case(
        "qwen2-head",
        qwen2(tie_word_embeddings=False, num_attention_heads=4, num_key_value_heads=4, rms_norm_eps=1e-3),
        "separate head; GQA 1; a norm epsilon that shows",
        variants=(EPSILON, NO_BIAS),
    ),
    Case(
        "qwen2-bias",
        qwen2(num_attention_heads=4),
        "q, k and v biases, each of which shows; GQA 4",
        variants=zeros("q_proj", "k_proj", "v_proj"),
    ),
    Case(
        "qwen2-yarn-hub",
        qwen2(rope_scaling=YARN_QWEN2, rope_theta=10000, max_position_embeddings=1024),
        "yarn rope_scaling as Qwen2.5's model cards give it, its kind under the old key `type`",
        variants=(
            NO_SCALING,
            Variant("no attention factor", {"rope_scaling": YARN_QWEN2 | {"attention_factor": 1.0}}),
        ),
    ),
    Case(
        "qwen2-window-hub",
        qwen2(use_sliding_window=True, num_hidden_layers=3),
        "use_sliding_window from layer max_window_layers on",
        variants=(
            Variant("use_sliding_window off", {"use_sliding_window": False}),
            Variant("the window in every layer", {"max_window_layers": 0}),
            Variant("the window after layer max_window_layers", {"max_window_layers": 2}),
            Variant("the window below layer max_window_layers", {"layer_types": layers("sff")}),
            WINDOW_7,
        ),
    ),
    Case(
        "qwen2-window-v5",
        QWEN2_V5,
        "the window by layer_types, against max_window_layers",
        spelling="v5",
        variants=(
            Variant("the window in every layer", {"layer_types": layers("sss")}),
            Variant("no window", {"layer_types": layers("fff")}),
            rope_of(QWEN2_V5, "another rope_theta", rope_theta=10000.0),
            WINDOW_7,
        ),
    ),
    Case(
        "qwen2-wide",
        qwen2(**WIDE, num_attention_heads=4, num_key_value_heads=2),
        "bf16 weights whose rows are whole blocks of 128",
        dtype="bf16",
        variants=(NO_BIAS,),
    ),
]

LLAMA_CASES = [
    Case(
        "llama-llama3-hub",
        llama(),
        "llama3 rope_scaling as Llama 3.2 has it: frequencies in each of its three bands; tied head; three ends",
        variants=(
            NO_SCALING,
            Variant("no smooth band", {"rope_scaling": LLAMA32 | {"high_freq_factor": 1.001}}),
            Variant("a factor of 8", {"rope_scaling": LLAMA32 | {"factor": 8.0}}),
            THETA,
        ),
    ),
    Case(
        "llama-llama3-v5",
        LLAMA_V5,
        "the same in rope_parameters",
        spelling="v5",
        variants=(
            Variant("no scaling", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
            rope_of(LLAMA_V5, "another rope_theta", rope_theta=10000.0),
        ),
    ),
    Case(
        "llama-llama2",
        llama2(num_attention_heads=4),
        "Llama 2's oldest keys: no num_key_value_heads (as many as heads), head_dim, rope_theta (1e4), biases; "
        "separate head",
        variants=(Variant("Llama 3's rope_theta", {"rope_theta": 500000.0}),),
    ),
    Case(
        "llama-bias",
        llama(attention_bias=True, mlp_bias=True, rope_scaling=None, num_attention_heads=4),
        "attention_bias on q, k, v and o, mlp_bias on gate, up and down; GQA 4",
        variants=zeros("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
    Case(
        "llama-head-dim",
        llama(num_attention_heads=4, num_key_value_heads=2, rope_scaling=None, rms_norm_eps=1e-3),
        "head_dim 16 where hidden/heads is 8; a norm epsilon that shows",
        variants=(EPSILON, THETA),
    ),
    Case(
        "llama-linear-hub",
        llama2(rope_scaling=LINEAR, num_key_value_heads=1),
        "linear rope_scaling, its kind under the old key `type`; no rope_theta",
        variants=(NO_SCALING, THETA_1E6),
    ),
    Case(
        "llama-wide",
        llama(**WIDE, head_dim=64),
        "bf16 weights whose rows are whole blocks of 128, heads of 64",
        dtype="bf16",
        variants=(NO_SCALING,),
    ),
]

MISTRAL_CASES = [
    Case(
        "mistral-window",
        mistral(),
        "a window of 8 in every layer; decode starts inside it and leaves it; no head_dim: hidden/heads",
        prompt=5,
        greedy=32,
        variants=(WINDOW_OFF, WINDOW_7, THETA_1E6),
    ),
    Case(
        "mistral-full",
        mistral(sliding_window=None, rope_theta=1000000.0, attention_dropout=0.0, num_attention_heads=4),
        "sliding_window null, as from 7B v0.2 on; GQA 4",
        variants=(WINDOW_ON, THETA),
    ),
    Case(
        "mistral-head-dim",
        mistral(
            sliding_window=None,
            rope_theta=1000000.0,
            attention_dropout=0.0,
            head_dim=16,
            hidden_size=40,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-3,
        ),
        "head_dim 16 where hidden/heads is 10, as Nemo has it; a norm epsilon that shows",
        variants=(THETA, EPSILON),
    ),
    Case(
        "mistral-v5",
        MISTRAL_V5,
        "rope_parameters and a window of 8 as transformers 5 writes them; head_dim 16 where hidden/heads is 8; GQA 4",
        spelling="v5",
        variants=(WINDOW_OFF, WINDOW_7, rope_of(MISTRAL_V5, "another rope_theta", rope_theta=10000.0)),
    ),
    Case(
        "mistral-layer-types",
        mistral(layer_types=layers("fsf"), head_dim=16, num_hidden_layers=3),
        "layer_types beside sliding_window, as Ministral has them: the window in the sliding layers only",
        variants=(
            Variant("the window in every layer", {"layer_types": layers("sss")}),
            Variant("no window", {"layer_types": layers("fff")}),
            WINDOW_7,
        ),
    ),
    Case(
        "mistral-defaults",
        {
            key: value
            for key, value in mistral(
                head_dim=8, intermediate_size=24, num_attention_heads=16, num_hidden_layers=1, vocab_size=64
            ).items()
            if key not in ("num_key_value_heads", "rms_norm_eps", "rope_theta", "sliding_window", "tie_word_embeddings")
        },
        "what may be left out is: num_key_value_heads (8, not heads), rope_theta (1e4), rms_norm_eps (1e-6), "
        "sliding_window (4096, which 40 positions do not fill), tie_word_embeddings (false)",
        variants=(THETA_1E6, WINDOW_ON),
    ),
]
