"""transformers in float64, all the way.

`model.double()` is not enough: the norms, the rotary tables and the softmax ask
for float32 by name. `Float64` answers each of these requests with float64, so
what comes out is the model's mathematics with an error near 1e-15, and any
float32 implementation can be held against it.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig

import experts
from checkpoint import MODEL_CLASSES, text_alone


class Float64(TorchFunctionMode):
    """Within this context nothing is computed in float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            return args[0].double()
        widen = lambda value: torch.float64 if value is torch.float32 else value
        return func(*map(widen, args), **{k: widen(v) for k, v in (kwargs or {}).items()})


def by_token(model) -> None:
    """Has gated delta nets run token by token, as their definition has it, and not in chunks."""
    module = sys.modules[type(model).__module__]
    if hasattr(module, "torch_chunk_gated_delta_rule"):
        module.torch_chunk_gated_delta_rule = module.torch_recurrent_gated_delta_rule


class Reference:
    """A checkpoint directory, as transformers runs it.

    `precision`: "exact" (float64 throughout), or "f32", "bf16", "f16": what
    transformers itself computes in that dtype, casts and all.
    """

    DTYPES = {"exact": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

    def __init__(self, directory: Path, precision: str = "exact", state: dict | None = None):
        dtype = self.DTYPES[precision]
        self.context = Float64 if precision == "exact" else contextlib.nullcontext
        if state is None:
            state = {}
            for file in sorted(directory.glob("model*.safetensors")):
                state |= load_file(file)
        state = experts.fused(state)
        config, (stored, named) = text_alone(AutoConfig.from_pretrained(directory))
        state = {name.replace(stored, named, 1) if stored else name: tensor for name, tensor in state.items()}
        # What was packed is not any more.
        vars(config).pop("quantization_config", None)
        with self.context():
            self.model, info = MODEL_CLASSES[config.model_type].from_pretrained(
                None,
                config=config,
                state_dict={name: tensor.to(dtype) for name, tensor in state.items()},
                dtype=dtype,
                attn_implementation="eager",
                output_loading_info=True,
                **({"experts_implementation": "eager"} if hasattr(config.get_text_config(), "num_experts") else {}),
            )
        wrong = {k: v for k, v in info.items() if v and k in ("missing_keys", "mismatched_keys", "unexpected_keys")}
        if wrong:
            raise RuntimeError(f"{directory.name}: transformers did not take every tensor: {wrong}")
        self.model.eval()
        by_token(self.model)

    def logits(self, ids) -> np.ndarray:
        """[len(ids), vocabulary], float64, whatever the precision of the run."""
        with self.context(), torch.no_grad():
            logits = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
        return logits[0].double().numpy()

    def route_margin(self, ids) -> float:
        """The least lead, over positions and layers, of the last chosen expert's logit over the next one's."""
        margins = [np.inf]

        def look(router, _, output):
            # Gemma 4's gives their softmax.
            logits, top = (output[0], router.top_k) if hasattr(router, "top_k") else (
                output[0].log(), router.config.top_k_experts
            )  # fmt: skip
            ordered = logits.sort(dim=-1, descending=True).values
            if top < ordered.shape[-1]:
                margins.append(float((ordered[:, top - 1] - ordered[:, top]).min()))

        routers = [m for m in self.model.modules() if type(m).__name__.endswith(("TopKRouter", "TextRouter"))]
        hooks = [router.register_forward_hook(look) for router in routers]
        self.logits(ids)
        for hook in hooks:
            hook.remove()
        return min(margins)

    def greedy(self, prompt) -> Iterator[tuple[int, float]]:
        """The greedy tokens after `prompt`, each with its lead over the second best.

        Every step runs the whole sequence anew: no cache takes part.
        """
        ids = list(prompt)
        while True:
            last = self.logits(ids)[-1]
            second, first = np.argsort(last)[-2:]
            ids.append(int(first))
            yield ids[-1], float(last[first] - last[second])


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The worst position's largest error, over that position's largest logit."""
    error = np.abs(actual - expected).max(axis=-1)
    return float((error / np.abs(expected).max(axis=-1)).max())


def rms_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The root mean square of the error, over that of the logits."""
    return float(np.sqrt(((actual - expected) ** 2).mean() / (expected**2).mean()))


def save_expected(path: Path, arrays: dict[str, np.ndarray], about: dict) -> None:
    """Integers as int32, everything else as float32; `about` as the one metadata entry."""
    tensors = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        kind = np.int32 if array.dtype.kind == "i" else np.float32
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array.astype(kind)))
    # One key only: safetensors writes several in no fixed order.
    save_file(tensors, path, {"reference": json.dumps(about, sort_keys=True)})
