"""The cases of Gemma 3n. Variants that no key makes change transformers' modules."""

import torch

from case import WINDOW_7, Case, Variant, layers


def text(**changes) -> dict:
    """A text config in the hub's spelling, with the keys that E2B has."""
    config = {
        "activation_sparsity_pattern": [0.8, 0.8, 0.0, 0.6, 0.0],
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_lr_multiplier": 1.0,
        "altup_num_inputs": 4,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "final_logit_softcapping": 8.0,
        "head_dim": 16,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 16,
        "hidden_size_per_layer_input": 8,
        "initializer_range": 0.02,
        "intermediate_size": [24, 16, 16, 24, 16],
        "laurel_rank": 6,
        "layer_types": layers("ssfsf"),
        "max_position_embeddings": 32768,
        "model_type": "gemma3n_text",
        "num_attention_heads": 2,
        "num_hidden_layers": 5,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 2,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": 8,
        "use_cache": True,
        "vocab_size": 96,
        "vocab_size_per_layer_input": 80,
    }
    return config | changes


def in_v5(config: dict) -> dict:
    """The same for transformers 5, which has no bases at the top."""
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": config["rope_theta"]},
        "sliding_attention": {"rope_type": "default", "rope_theta": config["rope_local_base_freq"]},
    }
    hub_only = ("altup_lr_multiplier", "query_pre_attn_scalar", "rope_local_base_freq", "rope_scaling", "rope_theta")
    return {key: value for key, value in config.items() if key not in hub_only} | {"rope_parameters": rope}


def nested(config: dict) -> dict:
    return {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "audio_config": {"model_type": "gemma3n_audio"},
        "eos_token_id": [1, 3],
        "model_type": "gemma3n",
        "text_config": config,
        "vision_config": {"model_type": "gemma3n_vision"},
    }


def no_value_norm(model) -> None:
    for layer in model.model.layers:
        if hasattr(layer.self_attn, "v_norm"):
            layer.self_attn.v_norm = torch.nn.Identity()


def first_donor(model) -> None:
    """The first layer of a kind gives its keys, and not the last."""
    given = set()
    for layer in model.model.layers:
        attention = layer.self_attn
        if not attention.is_kv_shared_layer:
            attention.store_full_length_kv = attention.layer_type not in given
            given.add(attention.layer_type)


def clipped(model) -> None:
    """Coefficients held inside their bound, as in training and as mlx-lm does."""
    for layer in model.model.layers:
        altup = layer.altup
        for coefs in (altup.prediction_coefs, altup.correction_coefs):
            coefs.weight.data.clamp_(-altup.config.altup_coef_clip, altup.config.altup_coef_clip)


def cut_by_the_sample(model) -> None:
    """The deviation of a sample, and not of the whole row."""
    for layer in model.model.layers:
        def cut(x, mlp=layer.mlp):
            factor = torch.distributions.normal.Normal(0, 1).icdf(torch.tensor(mlp.activation_sparsity).to(x.dtype))
            return torch.relu(x - (x.mean(-1, keepdim=True) + x.std(-1, keepdim=True) * factor))
        layer.mlp._gaussian_topk = cut


def only_cut(model) -> None:
    """What lies above the cut as it is, without the cut taken from it."""
    for layer in model.model.layers:
        def cut(x, mlp=layer.mlp, inner=layer.mlp._gaussian_topk):
            return torch.where(inner(x) > 0, x, 0.0)
        layer.mlp._gaussian_topk = cut


def added_to_the_first(model) -> None:
    """A layer's own input is added to the first stream too."""
    for layer in model.model.layers:
        def forward(hidden, *args, layer=layer, inner=layer.forward, **kwargs):
            kept = {}
            hook = layer.post_per_layer_input_norm.register_forward_hook(lambda m, i, out: kept.update(out=out))
            out = inner(hidden, *args, **kwargs)
            hook.remove()
            return torch.cat([out[:1] + kept["out"], out[1:]])
        layer.forward = forward


def not_transposed(model) -> None:
    """Coefficients of predictions by the other index."""
    for layer in model.model.layers:
        altup = layer.altup
        n = altup.config.altup_num_inputs
        weight = altup.prediction_coefs.weight.data
        altup.prediction_coefs.weight.data = weight.view(n, n, n).transpose(0, 1).reshape(n * n, n).clone()


def no_laurel(model) -> None:
    for layer in model.model.layers:
        layer.laurel.forward = lambda x: x


def unscaled_inputs(model) -> None:
    model.model.embed_tokens_per_layer.embed_scale.fill_(1.0)


def one_norm_for_all(model) -> None:
    """The projection is normalized as one row, and not a layer's part at a time."""
    norm = model.model.per_layer_projection_norm
    def whole(x):
        flat = x.flatten(-2)
        return norm.weight * (flat * (flat.pow(2).mean(-1, keepdim=True) + norm.eps).rsqrt()).view_as(x)
    norm.forward = whole


def unmatched_streams(model) -> None:
    """The streams begin as they are projected, without the magnitude of the first."""
    def begin(layer, args):
        first = args[0][0]
        others = [projection(first) for projection in model.model.altup_projections]
        return (torch.stack([first, *others]), *args[1:])
    model.model.layers[0].register_forward_pre_hook(begin)


def unmatched_ends(model) -> None:
    """And end so."""
    last = {}
    model.model.layers[-1].register_forward_hook(lambda layer, args, out: last.update(out=out))
    def merge(norm, args):
        first, *others = last["out"]
        others = [projection(x) for projection, x in zip(model.model.altup_unembed_projections, others)]
        return (torch.stack([first, *others]).mean(0),)
    model.model.norm.register_forward_pre_hook(merge)


NO_VALUE_NORM = Variant("no norm of values", patch=no_value_norm)
WRONG_DONOR = Variant("keys of the first layer of a kind", patch=first_donor)
WINDOW_9 = Variant("a window of 9", {"sliding_window": 9})
SAMPLE = Variant("the deviation of a sample", patch=cut_by_the_sample)
ONLY_CUT = Variant("what is above the cut as it is", patch=only_cut)
UNCUT = Variant("no activation sparsity", {"activation_sparsity_pattern": [0.0] * 5})
UNSCALED_OUTPUT = Variant("no correct_output_scale", {"altup_correct_scale": False})
FIRST = Variant("a layer's input added to the first stream", patch=added_to_the_first)
NOT_TRANSPOSED = Variant("coefficients by the other index", patch=not_transposed)
NO_LAUREL = Variant("no laurel", patch=no_laurel)
UNSCALED_INPUTS = Variant("inputs of layers without their root", patch=unscaled_inputs)
ONE_NORM = Variant("one norm for the projections of all layers", patch=one_norm_for_all)
#: transformers takes no null here.
UNCAPPED = Variant("no softcapping", {"final_logit_softcapping": 1e9})
UNMATCHED_STREAMS = Variant("streams of their own magnitudes", patch=unmatched_streams)
UNMATCHED_ENDS = Variant("streams put together as they are", patch=unmatched_ends)
CLIPPED = Variant("coefficients clipped", patch=clipped)
EPSILON = Variant("epsilon 1e-6", {"rms_norm_eps": 1e-6})
OTHER_ACTIVE = Variant("the first stream active", {"altup_active_idx": 0})
LOCAL = Variant("another local base", {"rope_local_base_freq": 100000.0})
THETA = Variant("another rope_theta", {"rope_theta": 10000.0})

ALL = (
    NO_VALUE_NORM, WRONG_DONOR, WINDOW_7, WINDOW_9, SAMPLE, ONLY_CUT, UNCUT, UNSCALED_OUTPUT, FIRST, NOT_TRANSPOSED,
    NO_LAUREL, UNSCALED_INPUTS, ONE_NORM, UNMATCHED_STREAMS, UNMATCHED_ENDS, UNCAPPED,
)  # fmt: skip

#: Rows that are whole blocks of 128, and no more of them than that takes.
WIDE = {
    "activation_sparsity_pattern": [0.8, 0.0],
    "hidden_size": 128,
    "hidden_size_per_layer_input": 16,
    "intermediate_size": [128, 128],
    "layer_types": layers("sf"),
    "num_attention_heads": 4,
    "head_dim": 32,
    "num_hidden_layers": 2,
    "num_kv_shared_layers": 0,
    "altup_num_inputs": 2,
    # Or every token would be answered with itself.
    "tie_word_embeddings": False,
    "vocab_size": 48,
    "vocab_size_per_layer_input": 40,
}

GEMMA3N_CASES = [
    Case(
        "gemma3n-e2b-hub",
        nested(text()),
        "as E2B: nested, four streams, laurel, cut gates, MLPs of two widths, keys shared by the last layers, inputs of "
        "layers whose table has fewer rows than there are tokens; decode starts inside the window and leaves it; GQA 2",
        names="v5",
        prompt=5,
        greedy=64,
        variants=(*ALL, LOCAL, THETA),
    ),
    Case(
        "gemma3n-e4b-v5",
        in_v5(
            text(
                activation_sparsity_pattern=[0.9] * 3 + [0.0] * 4,
                altup_coef_clip=0.2,
                attention_bias=True,
                intermediate_size=20,
                layer_types=layers("sfsfssf"),
                num_hidden_layers=7,
                num_key_value_heads=2,
                num_kv_shared_layers=4,
                rms_norm_eps=0.02,
                vocab_size_per_layer_input=96,
            )
        ),
        "rope_parameters as transformers 5 writes them; two layers read each shared state; a bound of coefficients that "
        "would bite, of which transformers makes no use outside of training; attention_bias; an epsilon that shows; GQA 1",
        spelling="v5",
        variants=(CLIPPED, EPSILON, NO_VALUE_NORM, WRONG_DONOR, SAMPLE, FIRST, Variant("biases of zero", zero="bias")),
    ),
    Case(
        "gemma3n-active",
        text(
            altup_active_idx=1,
            altup_correct_scale=False,
            altup_num_inputs=3,
            final_logit_softcapping=1000.0,
            num_kv_shared_layers=0,
            tie_word_embeddings=False,
        ),
        "three streams of which the second is active, nothing scaled or shared, hardly anything squashed, a separate head",
        variants=(OTHER_ACTIVE, NOT_TRANSPOSED, FIRST, Variant("a head of zeros", zero="lm_head")),
    ),
    Case(
        "gemma3n-pattern",
        {
            key: value
            for key, value in text(
                num_hidden_layers=11, num_kv_shared_layers=1, hidden_size=8, intermediate_size=40, num_attention_heads=1,
                rms_norm_eps=0.5,
            ).items()
            if key not in ("activation_sparsity_pattern", "layer_types", "rope_theta", "rope_local_base_freq")
        },
        "without layer_types every fifth layer is full; of more than ten the gates of the first ten are cut",
        variants=(
            Variant("the pattern of 4", {"layer_types": layers("sssfsssfsss")}),
            Variant("no gates cut", {"activation_sparsity_pattern": [0.0] * 11}),
        ),
    ),
    Case(
        "gemma3n-bf16",
        text(
            activation_sparsity_pattern=[0.5, 0.0, 0.0],
            intermediate_size=32, num_hidden_layers=3, num_kv_shared_layers=1, layer_types=layers("sfs"),
        ),
        "bf16 weights",
        dtype="bf16",
        length=60, prompt=30,
        variants=(UNSCALED_OUTPUT,),
    ),
    Case(
        "gemma3n-wide",
        text(**WIDE),
        "bf16 weights whose rows are whole blocks of 128",
        dtype="bf16",
        length=30,
        variants=(UNSCALED_OUTPUT,),
    ),
    Case(
        "gemma3n-f16",
        text(
            activation_sparsity_pattern=[0.5, 0.0, 0.0],
            intermediate_size=32, num_hidden_layers=3, num_kv_shared_layers=1, layer_types=layers("sfs"),
        ),
        "f16 weights",
        dtype="f16",
        length=30,
        variants=(UNSCALED_OUTPUT,),
    ),
    Case(
        "gemma3n-long",
        text(
            activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
            final_logit_softcapping=1000.0,
            head_dim=8,
            intermediate_size=24,
            layer_types=layers("sfsf"),
            num_hidden_layers=4,
            rms_norm_eps=0.1,
            sliding_window=64,
            vocab_size=40,
            vocab_size_per_layer_input=40,
        ),
        "600 positions, a window of 64 whose keys are shared; decode from 250 to 290",
        length=600,
        prompt=250,
        greedy=40,
        variants=(Variant("a window of 63", {"sliding_window": 63}),),
    ),
]  # fmt: skip
