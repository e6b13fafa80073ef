"""The cases of the first two Gemmas, and of VaultGemma."""

from case import NO_BIAS, NO_WINDOW, SCALE, THETA_1E6, WINDOW_7, Case, Variant, in_v5, layers


def gemma(**changes) -> dict:
    """A Gemma config in the hub's spelling, with the keys that gemma-2b has."""
    return {
        "architectures": ["GemmaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "head_dim": 16,
        "hidden_act": "gelu",
        "hidden_activation": None,
        "hidden_size": 40,
        "initializer_range": 0.02,
        "intermediate_size": 32,
        "max_position_embeddings": 8192,
        "model_type": "gemma",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "transformers_version": "4.38.0.dev0",
        "use_cache": True,
        "vocab_size": 96,
    } | changes


def gemma2(**changes) -> dict:
    """A Gemma 2 config in the hub's spelling, with the keys that gemma-2-2b has, and caps that bite."""
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": 4.0,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": 1,
        "final_logit_softcapping": 3.0,
        "head_dim": 16,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 24,
        "max_position_embeddings": 8192,
        "model_type": "gemma2",
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 24,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 8,
        "transformers_version": "4.42.4",
        "use_cache": True,
        "vocab_size": 96,
    } | changes


def vaultgemma(**changes) -> dict:
    """A VaultGemma config, with the keys that vaultgemma-1b has: Gemma 2's, and another class."""
    named = {"architectures": ["VaultGemmaForCausalLM"], "model_type": "vaultgemma"}
    return gemma2(**named | {"num_key_value_heads": 2} | changes)


def without(config: dict, *keys: str) -> dict:
    return {key: value for key, value in config.items() if key not in keys}


SILU = Variant("silu", {"hidden_act": "silu"})
#: transformers takes Gemma's "gelu" for the approximation by tanh; the exact one goes by this name.
EXACT_GELU = Variant("exact gelu", {"hidden_act": "gelu_python"}, least=5e-4)
EXACT_GELU2 = Variant("exact gelu", {"hidden_activation": "gelu"}, least=5e-4)
NO_SCORE_CAP = Variant("no cap on scores", {"attn_logit_softcapping": None})
NO_FINAL_CAP = Variant("no cap on logits", {"final_logit_softcapping": None})
NO_CAP_OF_30 = Variant("no cap on logits", {"final_logit_softcapping": None}, least=5e-4)

GEMMA_CASES = [
    Case(
        "gemma-mqa",
        gemma(),
        "hidden_act `gelu` and hidden_activation null as gemma-2b has them, which mean the approximation by tanh; "
        "GQA 4; head_dim 16 where hidden/heads is 10; tied head without a key for it",
        variants=(EXACT_GELU, SILU, THETA_1E6),
    ),
    Case(
        "gemma-mha",
        gemma(
            num_key_value_heads=4,
            hidden_size=24,
            head_dim=8,
            hidden_act="gelu_pytorch_tanh",
            hidden_activation="gelu_pytorch_tanh",
        ),
        "as many key-value heads as heads, which are wider than hidden, as gemma-7b has them; both keys of the "
        "activation, as 1.1 has them",
        variants=(SILU, THETA_1E6),
    ),
    Case(
        "gemma-v5",
        in_v5(
            without(gemma(num_attention_heads=2), "hidden_activation")
            | {"hidden_act": "gelu_pytorch_tanh", "attention_bias": True, "tie_word_embeddings": False}
        ),
        "rope_parameters as transformers 5 writes them; separate head, attention_bias; GQA 2",
        spelling="v5",
        variants=(
            NO_BIAS,
            EXACT_GELU,
            Variant("another rope_theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
        ),
    ),
    Case(
        "gemma-defaults",
        without(
            gemma(hidden_size=16, head_dim=8),
            "attention_bias",
            "hidden_act",
            "hidden_activation",
            "num_attention_heads",
            "num_key_value_heads",
            "rms_norm_eps",
            "rope_scaling",
            "rope_theta",
        ),
        "what may be left out is: heads and key-value heads (16), rope_theta (1e4), rms_norm_eps (1e-6), activation",
        variants=(EXACT_GELU, THETA_1E6, Variant("epsilon 1e-3", {"rms_norm_eps": 1e-3}, least=5e-4)),
    ),
]

GEMMA2_CASES = [
    Case(
        "gemma2-hub",
        gemma2(),
        "both caps; a window of 8 in every other layer, the first among them; query_pre_attn_scalar 24 where "
        "head_dim is 16; decode starts inside the window and leaves it",
        prompt=5,
        greedy=32,
        variants=(
            NO_SCORE_CAP,
            NO_FINAL_CAP,
            NO_WINDOW,
            WINDOW_7,
            SCALE,
            Variant("the window in the other layers", {"layer_types": layers("fsf")}),
            Variant("the window in every layer", {"layer_types": layers("sss")}),
            THETA_1E6,
            EXACT_GELU2,
        ),
    ),
    Case(
        "gemma2-uncapped",
        gemma2(attn_logit_softcapping=None, final_logit_softcapping=None, num_hidden_layers=2),
        "both caps null",
        variants=(
            Variant("scores capped at 50", {"attn_logit_softcapping": 50.0}, least=5e-4),
            Variant("logits capped at 30", {"final_logit_softcapping": 30.0}, least=5e-4),
        ),
    ),
    Case(
        "gemma2-v5",
        in_v5(gemma2(layer_types=layers("ffs"), num_key_value_heads=2, attention_bias=True, tie_word_embeddings=False)),
        "layer_types of no period and rope_parameters as transformers 5 writes them; separate head, attention_bias; "
        "GQA 1",
        spelling="v5",
        variants=(
            Variant("every other layer", {"layer_types": layers("sfs")}),
            NO_WINDOW,
            NO_BIAS,
            Variant("another rope_theta", {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
        ),
    ),
    Case(
        "gemma2-defaults",
        without(
            gemma2(hidden_size=16, num_hidden_layers=2),
            "attention_bias",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "hidden_act",
            "hidden_activation",
            "num_attention_heads",
            "num_key_value_heads",
            "query_pre_attn_scalar",
            "rms_norm_eps",
            "rope_theta",
            "sliding_window",
        ),
        "what may be left out is: heads (8), key-value heads (4), query_pre_attn_scalar (256), rope_theta (1e4), "
        "the cap on logits (30) and on scores (50, which these scores are far from), the window (4096)",
        variants=(SCALE, NO_CAP_OF_30, THETA_1E6, Variant("a window of 8", {"sliding_window": 8})),
    ),
    Case(
        "gemma2-long",
        # Heads of 8 turn their second pair less than heads of 16, and float32 rounds each turn.
        gemma2(
            vocab_size=40,
            sliding_window=64,
            num_hidden_layers=2,
            head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            query_pre_attn_scalar=12,
        ),
        "600 positions, a window of 64; decode from 250 to 290",
        length=600,
        prompt=250,
        greedy=40,
        variants=(NO_WINDOW, Variant("a window of 63", {"sliding_window": 63})),
    ),
    Case(
        "gemma2-wide",
        gemma2(
            hidden_size=128,
            intermediate_size=128,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            num_hidden_layers=2,
        ),
        "bf16 weights whose rows are whole blocks of 128",
        dtype="bf16",
        variants=(NO_WINDOW, NO_SCORE_CAP),
    ),
]

VAULTGEMMA_CASES = [
    Case(
        "vaultgemma-hub",
        vaultgemma(),
        "both caps; a window of 8 in every other layer, the first among them; query_pre_attn_scalar 24 where "
        "head_dim is 16; as many key-value heads as heads; decode starts inside the window and leaves it",
        prompt=5,
        greedy=32,
        variants=(
            NO_SCORE_CAP,
            NO_FINAL_CAP,
            NO_WINDOW,
            WINDOW_7,
            SCALE,
            Variant("the window in the other layers", {"layer_types": layers("fsf")}),
            THETA_1E6,
            EXACT_GELU2,
        ),
    ),
    Case(
        "vaultgemma-v5",
        in_v5(vaultgemma(layer_types=layers("ffs"), num_key_value_heads=1, attention_bias=True, tie_word_embeddings=False)),
        "layer_types of no period and rope_parameters as transformers 5 writes them; separate head, attention_bias; "
        "GQA 2",
        spelling="v5",
        variants=(Variant("every other layer", {"layer_types": layers("sfs")}), NO_WINDOW, NO_BIAS),
    ),
]
