"""Makes the quantized models in crates/models/tests/fixtures, with their logits.

    python tools/reference/quantized.py              # all cases
    python tools/reference/quantized.py qwen3-mxfp4  # some

mlx-lm quantizes a model of random weights and saves it, as `mlx_lm.convert`
would. Two references go beside it:

- `logits`: mlx-lm on that checkpoint in float32, that is with scales, biases and
  all dense weights cast to float32;
- `logits_f64`: transformers in float64 on the weights that dequantize.py, which
  knows nothing of MLX, decodes from the file.

Where the checkpoint is in bf16 or f16, `logits_bf16` or `logits_f16` is mlx-lm
run as it stands. On a CPU its quantized product adds up in that dtype, so take
it for a loose figure.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
import torch
import transformers
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import _get_classes, load_model, quantize_model, save_config, save_model

import experts
from checkpoint import DTYPE_NAMES, DTYPES, HYBRIDS, MODEL_CLASSES, draw, random_state_dict, rng_for, write_json
from dequantize import dequantize
from exact import Reference, relative_error, save_expected
from quantized_cases import CASES, QuantizedCase

FIXTURES = Path(__file__).resolve().parents[2] / "crates/models/tests/fixtures"
LENGTH = 24
MX_DTYPES = {"f32": mx.float32, "bf16": mx.bfloat16, "f16": mx.float16}

#: What the two references may differ by, relative to the largest logit.
MAX_DISAGREEMENT = 2e-5

#: MLX's group size and bits of each mode.
DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}

ABOUT = {
    "made_by": "tools/reference/quantized.py",
    "mlx": mx.__version__,
    "mlx_lm": mlx_lm.__version__,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}


def as_float32(module) -> None:
    """Casts whatever is floating point; packed weights and byte scales stay."""
    floating = lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a
    module.update(tree_map(floating, module.parameters()))


def text_only(config: dict) -> tuple[dict, tuple[str, str]]:
    """The config of the language model alone, and with what its tensors' names begin there and in the file."""
    config = {k: v for k, v in config.items() if not k.startswith("quantization")}
    if "text_config" in config:
        text = config["text_config"]
        names = ("model.", "model.language_model.") if config["model_type"] == "gemma3n" else ("", "language_model.")
        return text | {"architectures": [MODEL_CLASSES[text["model_type"]].__name__]}, names
    return config, ("", "")


def save_quantized(directory: Path, case: QuantizedCase) -> None:
    """Draws dense weights and has mlx-lm quantize and save them."""
    with tempfile.TemporaryDirectory() as dense:
        config, (named, prefix) = text_only(case.config)
        write_json(Path(dense) / "config.json", config)
        state = random_state_dict(dense, case.name, DTYPES[case.dtype], case.own_head)
        # Those of Gemma 4 and Qwen3.5 are released fused.
        is_fused = any(family in config["model_type"] for family in ("gemma4", "qwen3_5"))
        # mlx-lm reads gpt-oss's own only if they are packed.
        spelling = "switch" if config["model_type"] == "gpt_oss" else "fused" if is_fused else "hub"
        state = experts.spelled(state, spelling)
    state = {prefix + k.removeprefix(named): v for k, v in state.items()}
    weights = [(k, mx.array(v.float().numpy()).astype(MX_DTYPES[case.dtype])) for k, v in state.items()]

    model_class, arguments = _get_classes(case.config)
    model = model_class(arguments.from_dict(json.loads(json.dumps(case.config))))
    weights = dict(weights)
    for name, parameter in tree_flatten(model.parameters()):
        if case.config["model_type"] == "gemma3n" and name not in weights:
            # Keys of layers that share others' are in the files, and nobody uses them.
            values = draw(name, parameter.shape, rng_for(case.name, name), "gemma3n")
            weights[name] = mx.array(values).astype(MX_DTYPES[case.dtype])
    if hasattr(model, "sanitize"):
        weights = model.sanitize(weights)
    model.load_weights(list(weights.items()))

    predicate = lambda path, _: case.overrides.get(path, True)
    config = case.config | {"torch_dtype": DTYPE_NAMES[case.dtype]}
    model, config = quantize_model(model, config, case.group_size, case.bits, case.mode, quant_predicate=predicate)
    settings = config["quantization"]
    # mlx-lm leaves a dense layer out; other writers say so.
    first_dense = next((path for path, value in case.overrides.items() if value is False), None)
    if first_dense:
        settings[first_dense] = False
    if not case.names_mode:
        del settings["mode"]
    save_model(directory, model)
    save_config(config, directory / "config.json")


def mlx_logits(directory: Path, ids, float32: bool) -> np.ndarray:
    model, _ = load_model(directory)
    if float32:
        as_float32(model)
    # Without a cache mlx-lm's layers of Gemma 3n share nothing.
    cache = model.make_cache() if model.model_type == "gemma3n" else None
    logits = model(mx.array(ids)[None], cache=cache)[0]
    return np.array(logits.astype(mx.float32)).astype(np.float64)


def parameters_for(path: str, quantization: dict) -> tuple[str, int, int]:
    own = quantization.get(path) or quantization
    mode = own.get("mode", "affine")
    # What a layer's own entry leaves out is the mode's default, and not the model's.
    group_size, bits = DEFAULTS[mode]
    return mode, own.get("group_size", group_size), own.get("bits", bits)


def decoded_state(directory: Path, config: dict, named: str, prefix: str) -> dict[str, torch.Tensor]:
    """Every weight of the checkpoint in float64, by our own decoding."""
    stored = mx.load(str(directory / "model.safetensors"))
    plain = lambda a: np.array(a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a)
    state = {}
    for name, array in stored.items():
        path = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        values = plain(array).astype(np.float64)
        if f"{path}.scales" in stored:
            biases = stored.get(f"{path}.biases")
            values = dequantize(
                plain(array),
                plain(stored[f"{path}.scales"]),
                None if biases is None else plain(biases),
                *parameters_for(path, config["quantization"]),
            )
        state[named + name.removeprefix(prefix)] = torch.from_numpy(values)
    return as_released(state) if config["model_type"] in HYBRIDS else state


def as_released(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What mlx-lm has changed in models with gated delta nets, undone: their convolutions lie otherwise, and norms
    are stored with the one added by which they multiply more."""
    changed = {}
    for name, tensor in state.items():
        if name.endswith("conv1d.weight"):
            tensor = tensor.movedim(2, 1).contiguous()
        elif name.removesuffix(".weight").endswith("norm") and "linear_attn" not in name:
            tensor = tensor - 1
        changed[name] = tensor
    return changed


def exact_logits(directory: Path, ids) -> np.ndarray:
    config = json.loads((directory / "config.json").read_text())
    dense, names = text_only(config)
    with tempfile.TemporaryDirectory() as other:
        write_json(Path(other) / "config.json", dense)
        return Reference(Path(other), state=decoded_state(directory, config, *names)).logits(ids)


def make(case: QuantizedCase) -> None:
    directory = FIXTURES / case.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    save_quantized(directory, case)
    ids = rng_for(case.name, "ids").integers(4, 64, LENGTH)

    logits, exact = mlx_logits(directory, ids, float32=True), exact_logits(directory, ids)
    disagreement = relative_error(logits, exact)
    arrays = {"input_ids": ids, "logits": logits, "logits_f64": exact}
    report = ""
    if case.dtype != "f32":
        arrays[f"logits_{case.dtype}"] = low = mlx_logits(directory, ids, float32=False)
        report = f"  mlx-lm in {case.dtype} {relative_error(low, exact):.1e}"
    save_expected(directory / "expected.safetensors", arrays, ABOUT)
    size = sum(file.stat().st_size for file in directory.iterdir()) // 1024
    print(
        f"{case.name:20} {size:4} KB  mlx-lm in f32 against float64 {disagreement:.1e}{report}  "
        f"logits sd {exact.std():.2f}",
        flush=True,
    )
    if disagreement > MAX_DISAGREEMENT:
        raise RuntimeError(f"{case.name}: the two references disagree")


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    mx.set_default_device(mx.cpu)
    wanted = sys.argv[1:]
    for case in CASES:
        if not wanted or case.name in wanted:
            make(case)


if __name__ == "__main__":
    main()
