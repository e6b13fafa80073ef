"""What the logit fixtures cover: one entry a case. Qwen3 and Gemma 3 are here, the other families beside.

Two spellings of config.json are in use. `hub` is the one that released
checkpoints carry (`rope_theta`, `rope_scaling`, `rope_local_base_freq`,
`sliding_window_pattern`); such a config is written here by hand, key for key.
`v5` is what transformers 5 writes (`rope_parameters`, `layer_types`); such a
config is given to its class, and the class saves it.
"""

from case import (
    EPSILON, LLAMA3, NO_BIAS, NO_HEAD, NO_SCALING, NO_WINDOW, SCALE, THETA, WINDOW_7, YARN, Case, Variant, layers,
)  # fmt: skip
from gemma3n_cases import GEMMA3N_CASES
from gemma4_cases import GEMMA4_CASES
from gemma_cases import GEMMA2_CASES, GEMMA_CASES, VAULTGEMMA_CASES
from gpt_oss_cases import GPT_OSS_CASES
from hybrid_cases import QWEN3_5_CASES, QWEN3_5_MOE_CASES, QWEN3_NEXT_CASES
from llama_cases import LLAMA_CASES, MISTRAL_CASES, QWEN2_CASES
from moe_cases import QWEN2_MOE_CASES, QWEN3_MOE_CASES


def qwen3(**changes) -> dict:
    """A Qwen3 config in the hub's spelling, with the keys that Qwen3-0.6B has."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 0,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 40,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "max_position_embeddings": 40960,
        "max_window_layers": 3,
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 96,
    } | changes


def qwen3_v5(**changes) -> dict:
    """The same model for transformers 5, which has no `rope_theta` at the top."""
    config = qwen3(rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    for key in ("architectures", "rope_theta", "rope_scaling", "transformers_version"):
        del config[key]
    return config | changes


def gemma3(**changes) -> dict:
    """A Gemma 3 text config in the hub's spelling, with the keys that gemma-3-1b-it has."""
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 3],
        "final_logit_softcapping": None,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 24,
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "num_attention_heads": 2,
        "num_hidden_layers": 5,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 24,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
        "transformers_version": "4.50.0.dev0",
        "use_cache": True,
        "vocab_size": 96,
    } | changes


def gemma3_v5(**changes) -> dict:
    config = gemma3(
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }
    )
    for key in (
        "architectures", "cache_implementation", "rope_local_base_freq", "rope_scaling", "rope_theta",
        "sliding_window_pattern", "transformers_version",
    ):  # fmt: skip
        del config[key]
    return config | changes


#: A vision tower as small as transformers lets one be. Text needs none of it.
VISION = {
    "hidden_size": 8,
    "image_size": 28,
    "intermediate_size": 8,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "patch_size": 14,
    "vision_use_head": False,
}


def gemma3_nested(text: dict) -> dict:
    """A multimodal Gemma 3 config in the hub's spelling, with the keys that gemma-3-4b-it has."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 255999,
        "eoi_token_index": 256000,
        "eos_token_id": [1, 3],
        "image_token_index": 262144,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": text,
        "transformers_version": "4.50.0.dev0",
        "vision_config": VISION,
    }


LOCAL = Variant("another local base", {"rope_local_base_freq": 100000})
PATTERN = Variant("another pattern", {"sliding_window_pattern": 5})
PLAIN_V5 = Variant("no rope scaling", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})

WIDE = {"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 32}

LONG = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 32}

QWEN3_CASES = [
    Case("qwen3-tied", qwen3(), "tied head; head_dim 16 where hidden/heads is 10; GQA 2", variants=(THETA,)),
    Case(
        "qwen3-head",
        qwen3_v5(tie_word_embeddings=False, num_attention_heads=3, num_key_value_heads=3, rms_norm_eps=1e-3),
        "separate head; GQA 1; a norm epsilon that shows",
        spelling="v5",
        variants=(EPSILON,),
    ),
    Case(
        "qwen3-bias",
        qwen3(attention_bias=True, num_key_value_heads=1),
        "attention_bias on q, k, v and o; GQA 4",
        variants=(NO_BIAS,),
    ),
    Case("qwen3-gqa8", qwen3(num_attention_heads=8, num_key_value_heads=1, hidden_size=24), "GQA 8"),
    Case(
        "qwen3-linear-hub",
        qwen3(rope_scaling={"type": "linear", "factor": 4.0}, rope_theta=10000),
        "linear rope_scaling, its kind under the old key `type`",
        variants=(NO_SCALING, Variant("another theta", {"rope_theta": 1000000})),
    ),
    Case(
        "qwen3-linear-v5",
        qwen3_v5(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
        "linear scaling in rope_parameters",
        spelling="v5",
        variants=(PLAIN_V5,),
    ),
    Case(
        "qwen3-llama3-hub",
        qwen3(rope_scaling=LLAMA3, rope_theta=10000, max_position_embeddings=1024),
        "llama3 rope_scaling; one frequency in each of its three bands",
        variants=(NO_SCALING, Variant("no smooth band", {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.001}})),
    ),
    Case(
        "qwen3-llama3-v5",
        qwen3_v5(rope_parameters=LLAMA3 | {"rope_theta": 10000.0}, max_position_embeddings=1024),
        "llama3 in rope_parameters",
        spelling="v5",
        variants=(PLAIN_V5,),
    ),
    Case(
        "qwen3-yarn-hub",
        qwen3(rope_scaling=YARN, rope_theta=10000, max_position_embeddings=1024),
        "yarn rope_scaling as Qwen3's model cards give it; attention factor from `factor`",
        variants=(NO_SCALING, Variant("no attention factor", {"rope_scaling": YARN | {"attention_factor": 1.0}})),
    ),
    Case(
        "qwen3-yarn-v5",
        qwen3_v5(
            rope_parameters=YARN
            | {"rope_theta": 10000.0, "attention_factor": 1.3, "beta_fast": 8.0, "beta_slow": 0.5, "truncate": False},
            max_position_embeddings=1024,
        ),
        "yarn in rope_parameters with attention_factor, beta_fast, beta_slow, truncate",
        spelling="v5",
        variants=(
            PLAIN_V5,
            Variant("only the factor", {"rope_parameters": YARN | {"rope_theta": 10000.0}}),
            Variant(
                "truncated",
                {
                    "rope_parameters": YARN
                    | {"rope_theta": 10000.0, "attention_factor": 1.3, "beta_fast": 8.0, "beta_slow": 0.5}
                },
            ),
        ),
    ),
    Case(
        "qwen3-window-hub",
        qwen3(use_sliding_window=True, sliding_window=8, max_window_layers=1, num_hidden_layers=3),
        "use_sliding_window from layer max_window_layers on",
        variants=(
            Variant("use_sliding_window off", {"use_sliding_window": False}),
            Variant("the window in every layer", {"max_window_layers": 0}),
            WINDOW_7,
        ),
    ),
    Case(
        "qwen3-window-v5",
        qwen3_v5(use_sliding_window=True, sliding_window=8, layer_types=layers("sf"), max_window_layers=0),
        "the window by layer_types, against max_window_layers",
        spelling="v5",
        variants=(Variant("the window in every layer", {"layer_types": layers("ss")}),),
    ),
    Case(
        "qwen3-own-head",
        qwen3(),
        "a head of its own in the file, which tie_word_embeddings denies",
        own_head=True,
        variants=(NO_HEAD,),
    ),
    Case("qwen3-bf16", qwen3(), "bf16 weights", dtype="bf16"),
    Case("qwen3-wide", qwen3(**WIDE), "bf16 weights whose rows are whole blocks of 128", dtype="bf16"),
    Case("qwen3-f16", qwen3(tie_word_embeddings=False), "f16 weights", dtype="f16"),
    Case("qwen3-sharded", qwen3(), "three shards and an index", layout="indexed", dtype="bf16"),
    Case("qwen3-unindexed", qwen3(), "three shards and no index", layout="unindexed", dtype="bf16"),
    Case(
        "qwen3-long",
        qwen3(**LONG),
        "600 positions; decode goes from 250 to 290, past the cache's growth at 256",
        length=600,
        prompt=250,
        greedy=40,
    ),
]

GEMMA3_CASES = [
    Case(
        "gemma3-pattern6",
        gemma3(num_hidden_layers=13, sliding_window_pattern=6, hidden_size=24),
        "13 layers in a pattern of 6; decode starts inside the window of 8 and leaves it",
        prompt=5,
        greedy=32,
        variants=(THETA, LOCAL, NO_WINDOW, WINDOW_7, SCALE, PATTERN),
    ),
    Case(
        "gemma3-layer-types",
        gemma3_v5(num_hidden_layers=6, layer_types=layers("fssfsf"), hidden_size=24),
        "layer_types of no period, rope_parameters for each type",
        spelling="v5",
        variants=(Variant("a pattern of 6", {"layer_types": layers("sssssf")}),),
    ),
    Case(
        "gemma3-linear-hub",
        gemma3(rope_scaling={"factor": 8.0, "rope_type": "linear"}, num_key_value_heads=2),
        "linear rope_scaling, on global layers only; GQA 1",
        variants=(NO_SCALING,),
    ),
    Case(
        "gemma3-linear-v5",
        gemma3_v5(
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
            },
            num_hidden_layers=4,
            layer_types=layers("sfsf"),
        ),
        "the same in rope_parameters, with another local base",
        spelling="v5",
        variants=(
            Variant(
                "no scaling",
                {
                    "rope_parameters": {
                        "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
                        "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
                    }
                },
            ),
        ),
    ),
    Case(
        "gemma3-between",
        gemma3(
            num_attention_heads=4,
            num_hidden_layers=4,
            layer_types=layers("sfsf"),
            _sliding_window_pattern=6,
            use_bidirectional_attention=False,
        )
        | {"sliding_window_pattern": 6},
        "the spelling between the two, as gemma-3-270m has it: layer_types beside rope_theta; GQA 4",
        variants=(Variant("sliding_window_pattern wins", {"layer_types": None}),),
    ),
    Case(
        "gemma3-head",
        gemma3(
            tie_word_embeddings=False,
            attention_bias=True,
            final_logit_softcapping=3.0,
            num_attention_heads=8,
            num_hidden_layers=3,
            hidden_size=24,
        ),
        "separate head, attention_bias, final_logit_softcapping; GQA 8",
        variants=(NO_BIAS, Variant("no softcapping", {"final_logit_softcapping": None})),
    ),
    Case(
        "gemma3-nested-hub",
        gemma3_nested(
            {
                "hidden_size": 8,
                "intermediate_size": 24,
                "model_type": "gemma3_text",
                "num_hidden_layers": 2,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 8,
                "sliding_window_pattern": 2,
                "vocab_size": 64,
            }
        ),
        "`language_model.` names, a vision tower to ignore; heads 8, key-value heads 4, head_dim 256, "
        "query_pre_attn_scalar 256 and both bases by default, as gemma-3-4b leaves them out",
        dtype="bf16",
        names="hub",
        variants=(NO_SCALING, SCALE, LOCAL, THETA, NO_WINDOW),
    ),
    Case(
        "gemma3-nested-v5",
        gemma3_nested(gemma3_v5(num_hidden_layers=4, layer_types=layers("sfss"), num_key_value_heads=2)),
        "nested, `model.language_model.` names as transformers 5 has them in memory",
        spelling="v5",
        names="v5",
        variants=(NO_WINDOW,),
    ),
    Case(
        "gemma3-own-head",
        gemma3(num_hidden_layers=3),
        "a head of its own in the file, where Gemma 3 ties by default",
        own_head=True,
        variants=(NO_HEAD,),
    ),
    Case(
        "gemma3-nested-own-head",
        gemma3_nested(gemma3(model_type="gemma3_text", num_hidden_layers=2, tie_word_embeddings=True))
        | {"tie_word_embeddings": True},
        "the same, nested: `language_model.lm_head.`, as transformers 5 writes it",
        names="hub",
        own_head=True,
        variants=(NO_HEAD,),
    ),
    Case("gemma3-bf16", gemma3(), "bf16 weights", dtype="bf16", variants=(NO_WINDOW,)),
    Case(
        "gemma3-wide",
        gemma3(**WIDE, num_hidden_layers=3),
        "bf16 weights whose rows are whole blocks of 128",
        dtype="bf16",
        variants=(NO_WINDOW,),
    ),
    Case(
        "gemma3-long",
        gemma3(**LONG, num_hidden_layers=3, sliding_window=64, eos_token_id=1),
        "600 positions, a window of 64; decode from 250 to 290",
        length=600,
        prompt=250,
        greedy=40,
        variants=(NO_WINDOW,),
    ),
    Case(
        "gemma3-window300",
        gemma3(**LONG, num_hidden_layers=4, sliding_window=300, eos_token_id=1),
        "a window of 300: decode from 250 to 310 grows the rotating cache at 256, then fills and turns it",
        length=340,
        prompt=250,
        greedy=60,
        variants=(NO_WINDOW,),
    ),
]

CASES = (
    QWEN3_CASES + GEMMA3_CASES + QWEN2_CASES + LLAMA_CASES + MISTRAL_CASES + GEMMA_CASES + GEMMA2_CASES
    + VAULTGEMMA_CASES + GEMMA3N_CASES + GEMMA4_CASES + QWEN2_MOE_CASES + QWEN3_MOE_CASES + QWEN3_NEXT_CASES + QWEN3_5_CASES
    + QWEN3_5_MOE_CASES + GPT_OSS_CASES
)  # fmt: skip
