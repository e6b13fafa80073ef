"""The cases of Gemma 4. Variants that no key makes change transformers' modules."""

import torch

from case import WINDOW_7, Case, Variant, layers


def text(**changes) -> dict:
    """A text config in the hub's spelling, with the keys that E2B has."""
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": False,
        "bos_token_id": 2,
        "enable_moe_block": False,
        "eos_token_id": 1,
        "final_logit_softcapping": 8.0,
        "global_head_dim": 32,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 16,
        "hidden_size_per_layer_input": 8,
        "initializer_range": 0.02,
        "intermediate_size": 16,
        "layer_types": layers("ssfsf"),
        "max_position_embeddings": 131072,
        "model_type": "gemma4_text",
        "moe_intermediate_size": None,
        "num_attention_heads": 2,
        "num_experts": None,
        "num_global_key_value_heads": None,
        "num_hidden_layers": 5,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 2,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
            "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
        },
        "sliding_window": 8,
        "tie_word_embeddings": True,
        "top_k_experts": None,
        "use_bidirectional_attention": None,
        "use_cache": True,
        "use_double_wide_mlp": True,
        "vocab_size": 96,
        "vocab_size_per_layer_input": 96,
    } | changes


#: What 12B, 26B-A4B and 31B have: nothing shared, no inputs of layers, values from keys in full layers.
LARGE = {
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
    "layer_types": layers("ssfsf"),
    "num_attention_heads": 4,
    "num_global_key_value_heads": 1,
    "num_key_value_heads": 2,
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
}

#: And what 26B-A4B has beside.
MOE = LARGE | {
    "enable_moe_block": True,
    "layer_types": layers("sf"),
    "moe_intermediate_size": 8,
    "num_experts": 6,
    "num_hidden_layers": 2,
    "top_k_experts": 2,
}


def unified(**changes) -> dict:
    """12B's text config: it lacks the keys of what it has not got."""
    config = text(**LARGE | {"model_type": "gemma4_unified_text", "use_bidirectional_attention": "vision"} | changes)
    absent = ("enable_moe_block", "hidden_size_per_layer_input", "moe_intermediate_size", "num_experts",
              "top_k_experts", "vocab_size_per_layer_input")  # fmt: skip
    return {key: value for key, value in config.items() if key not in absent}


def nested(config: dict, model_type: str = "gemma4") -> dict:
    name = {"gemma4": "Gemma4", "gemma4_unified": "Gemma4Unified"}[model_type]
    return {
        "architectures": [f"{name}ForConditionalGeneration"],
        "audio_config": None,
        "eos_token_id": [1, 3],
        "model_type": model_type,
        "text_config": config,
        "tie_word_embeddings": True,
        "vision_config": None,
    }


def decoder(model):
    return getattr(model.model, "language_model", model.model)


def no_value_norm(model) -> None:
    for layer in decoder(model).layers:
        if hasattr(layer.self_attn, "v_norm"):
            layer.self_attn.v_norm = torch.nn.Identity()


def first_donor(model) -> None:
    """The first layer of a kind gives its keys, and not the last."""
    given = set()
    for layer in decoder(model).layers:
        attention = layer.self_attn
        if not attention.is_kv_shared_layer:
            attention.store_full_length_kv = attention.layer_type not in given
            given.add(attention.layer_type)


def no_layer_scalar(model) -> None:
    for layer in decoder(model).layers:
        layer.layer_scalar.fill_(1.0)


def unscaled_inputs(model) -> None:
    decoder(model).embed_tokens_per_layer.embed_scale.fill_(1.0)


def unscaled_sum(model) -> None:
    decoder(model).per_layer_input_scale = 1.0


def one_norm_for_all(model) -> None:
    """The projection is normalized as one row, and not a layer's part at a time."""
    text = decoder(model)
    inner = text.per_layer_projection_norm
    def whole(x):
        flat = x.flatten(-2)
        return inner.weight * (flat * (flat.pow(2).mean(-1, keepdim=True) + inner.eps).rsqrt()).view_as(x)
    text.per_layer_projection_norm.forward = whole


def not_renormalised(model) -> None:
    for layer in decoder(model).layers:
        router = layer.router
        def forward(x, router=router):
            scores = router.proj(router.norm(x) * router.scale * router.scalar_root_size)
            probabilities = scores.softmax(-1)
            weights, chosen = probabilities.topk(router.config.top_k_experts, dim=-1)
            return probabilities, weights * router.per_expert_scale[chosen], chosen
        router.forward = forward


def unscaled_shares(model) -> None:
    for layer in decoder(model).layers:
        layer.router.per_expert_scale.data.fill_(1.0)


def unscaled_router(model) -> None:
    for layer in decoder(model).layers:
        layer.router.scalar_root_size = 1.0


def routed_by_what_experts_see(model) -> None:
    for layer in decoder(model).layers:
        router, norm = layer.router, layer.pre_feedforward_layernorm_2
        inner = router.forward
        router.forward = lambda x, inner=inner, norm=norm: inner(norm(x))


def rope(share: float) -> dict:
    parameters = text()["rope_parameters"]
    full = parameters["full_attention"] | {"partial_rotary_factor": share}
    return {"rope_parameters": parameters | {"full_attention": full}}


NO_VALUE_NORM = Variant("no norm of values", patch=no_value_norm)
WRONG_DONOR = Variant("keys of the first layer of a kind", patch=first_donor)
NO_SCALAR = Variant("no layer scalars", patch=no_layer_scalar)
ALL_DIMS = Variant("all planes turned", rope(1.0))
HALF_DIMS = Variant("half of the planes turned", rope(0.5))
UNSCALED_INPUTS = Variant("inputs of layers without their root", patch=unscaled_inputs)
#: A norm follows, so that these show where its epsilon does.
UNSCALED_SUM = Variant("their sum not divided by the root of two", patch=unscaled_sum)
NOT_RENORMALISED = Variant("shares as they are", patch=not_renormalised)
EPSILON = Variant("epsilon 1e-6", {"rms_norm_eps": 1e-6})
ONE_NORM = Variant("one norm for the projections of all layers", patch=one_norm_for_all)
UNCAPPED = Variant("no softcapping", {"final_logit_softcapping": None})
UNSCALED_SHARES = Variant("shares without a scale of each expert", patch=unscaled_shares)
UNSCALED_ROUTER = Variant("a router without the root of hidden", patch=unscaled_router)
ROUTED = Variant("a router that sees what experts see", patch=routed_by_what_experts_see)
ONE_LESS = Variant("one expert less", {"top_k_experts": 1})
WINDOW_9 = Variant("a window of 9", {"sliding_window": 9})

SMALL_VARIANTS = (
    NO_VALUE_NORM, WRONG_DONOR, WINDOW_7, WINDOW_9, NO_SCALAR, ALL_DIMS, HALF_DIMS, UNSCALED_INPUTS, ONE_NORM,
    UNCAPPED,
)  # fmt: skip
LARGE_VARIANTS = (NO_VALUE_NORM, WINDOW_7, WINDOW_9, NO_SCALAR, ALL_DIMS)
MOE_VARIANTS = (NO_VALUE_NORM, UNSCALED_SHARES, UNSCALED_ROUTER, ROUTED, ONE_LESS, NO_SCALAR)

#: Rows that are whole blocks of 128, and no more of them than that takes.
WIDE = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "layer_types": layers("sf"),
    "num_attention_heads": 4,
    "head_dim": 32,
    "global_head_dim": 32,
    "num_hidden_layers": 2,
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
}

GEMMA4_CASES = [
    Case(
        "gemma4-e2b-hub",
        nested(text()),
        "as E2B: nested, keys of the last layer of a kind shared by those behind, whose MLPs are twice as wide; inputs "
        "of layers; heads of two sizes; decode starts inside the window and leaves it; GQA 2",
        names="v5",
        prompt=5,
        greedy=64,
        variants=SMALL_VARIANTS,
    ),
    Case(
        "gemma4-e4b-v5",
        text(
            layer_types=layers("sfsfssf"),
            num_hidden_layers=7,
            num_kv_shared_layers=4,
            num_key_value_heads=2,
            use_double_wide_mlp=False,
            vocab_size_per_layer_input=100,
            rms_norm_eps=0.2,
        ),
        "as E4B: per_layer_config as transformers 5 writes it; two layers read each shared state; a table of inputs with "
        "more rows than there are tokens; an epsilon that shows; GQA 1",
        spelling="v5",
        variants=(*(v for v in SMALL_VARIANTS if v is not ONE_NORM), UNSCALED_SUM, EPSILON),
    ),
    Case(
        "gemma4-31b-hub",
        text(**LARGE),
        "as 31B: values of full layers are their keys, which are fewer; nothing shared, no inputs of layers",
        greedy=64,
        variants=LARGE_VARIANTS,
    ),
    Case(
        "gemma4-12b-hub",
        nested(unified(), "gemma4_unified"),
        "as 12B: gemma4_unified, use_bidirectional_attention `vision`, no keys of what it lacks",
        names="v5",
        variants=LARGE_VARIANTS,
    ),
    Case(
        "gemma4-12b-v5",
        unified(attention_bias=True, tie_word_embeddings=False, final_logit_softcapping=None),
        "per_layer_config with key heads; attention_bias, a separate head, nothing squashed",
        spelling="v5",
        variants=(NO_VALUE_NORM, NO_SCALAR, Variant("biases of zero", zero="bias"), Variant("a head of zeros", zero="lm_head")),
    ),
    Case(
        "gemma4-26b_moe-hub",
        nested(text(**MOE)),
        "as 26B-A4B: experts beside the MLP, fused as released; the router sees the residual stream",
        names="v5",
        greedy=64,
        variants=MOE_VARIANTS,
    ),
    Case(
        "gemma4-26b_moe-switch",
        text(**MOE | {"layer_types": layers("sff"), "num_hidden_layers": 3, "top_k_experts": 3, "rms_norm_eps": 0.2}),
        "the same stacked as mlx-lm has them, below `switch_glu`; an epsilon that shows",
        experts="switch",
        variants=(NOT_RENORMALISED, ROUTED, EPSILON, Variant("one expert less", {"top_k_experts": 2})),
    ),
    Case(
        "gemma4-pattern",
        {
            key: value
            for key, value in text(
                num_hidden_layers=7, num_attention_heads=1, global_head_dim=16, num_kv_shared_layers=0,
                hidden_size_per_layer_input=0,
            ).items()  # fmt: skip
            if key not in ("layer_types", "rope_parameters", "use_double_wide_mlp", "attention_k_eq_v")
        },
        "without layer_types every sixth layer is full, and the last one; without rope_parameters their defaults",
        variants=(Variant("the pattern of 5", {"layer_types": layers("ssssfsf")}), ALL_DIMS),
    ),
    Case(
        "gemma4-bf16",
        text(num_hidden_layers=4, layer_types=layers("sfsf")),
        "bf16 weights",
        dtype="bf16",
        length=60, prompt=30,
        variants=(NO_SCALAR,),
    ),
    Case(
        "gemma4-wide",
        text(**WIDE),
        "bf16 weights whose rows are whole blocks of 128",
        dtype="bf16",
        length=30,
        variants=(NO_SCALAR,),
    ),
    Case(
        "gemma4-26b_moe-bf16",
        text(**MOE | {"num_experts": 4}),
        "bf16 weights, experts",
        dtype="bf16",
        experts="switch",
        length=30,
        variants=(ROUTED,),
    ),
    Case(
        "gemma4-f16",
        text(use_double_wide_mlp=False, num_hidden_layers=4, layer_types=layers("sfsf")),
        "f16 weights",
        dtype="f16",
        length=30,
        variants=(NO_SCALAR,),
    ),
    Case(
        "gemma4-long",
        text(
            final_logit_softcapping=None,
            head_dim=8,
            global_head_dim=16,
            layer_types=layers("sfsf"),
            num_hidden_layers=4,
            sliding_window=64,
            vocab_size=40,
            vocab_size_per_layer_input=40,
        ),
        "600 positions, a window of 64 whose keys are shared; decode from 250 to 290",
        length=600,
        prompt=250,
        greedy=40,
        variants=(Variant("a window of 63", {"sliding_window": 63}, least=5e-4),),
    ),
]
