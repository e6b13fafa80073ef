"""Makes crates/models/tests/fixtures: small random models and their exact logits.

    python tools/reference/logits.py            # all cases
    python tools/reference/logits.py qwen3-tied # some

Each case is a model directory with an `expected.safetensors` beside the weights
(its tensors are listed in README.md). A case's weights and prompt are drawn until
the greedy continuation is a fair test: every step decided by a clear margin, no
end-of-sequence token, no short loop, no rounding error that grows. Then each of the case's variants, a model
that is wrong in the way the case exists to catch, must give other logits.
"""

import contextlib
import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import transformers
from transformers import AutoConfig

import experts
from case import Case
from checkpoint import DTYPE_NAMES, DTYPES, MODEL_CLASSES, random_state_dict, rng_for, save_weights, write_json
from exact import Reference, relative_error, rms_error, save_expected
from logits_cases import CASES

FIXTURES = Path(__file__).resolve().parents[2] / "crates/models/tests/fixtures"

#: float32 must agree on every greedy token: its errors are some 1e-5.
MIN_MARGIN = 0.01
#: In half precision a token whose experts are a close choice gets others, and that is no error.
MIN_ROUTE_MARGIN = 0.06
#: Greedy continuations of random models like to loop; below this many different ids we redraw.
MIN_DISTINCT = 8
#: What float32 costs transformers itself. The tests allow 1e-4: a draw that
#: amplifies rounding errors would test the order of additions.
MAX_F32_ERROR = 5e-6
#: And half precision: a draw that it makes another model of would test nothing.
MAX_HALF_ERROR = 0.1

ABOUT = {"made_by": "tools/reference/logits.py", "torch": torch.__version__, "transformers": transformers.__version__}


def write_config(directory: Path, case: Case) -> None:
    if case.spelling == "hub":
        write_json(directory / "config.json", case.config | {"torch_dtype": DTYPE_NAMES[case.dtype]})
        return
    config = AutoConfig.for_model(**case.config)
    config.architectures = [MODEL_CLASSES[config.model_type].__name__]
    config.dtype = DTYPES[case.dtype]
    config.save_pretrained(directory)


def stored_name(name: str, names: str) -> str:
    if names != "hub":
        return name
    name = name.replace("lm_head.", "language_model.lm_head.")
    return name.replace("model.language_model.", "language_model.model.").removeprefix("model.")


def end_of_sequence(config: dict) -> set[int]:
    ids = config.get("eos_token_id", 1)
    return set(ids if isinstance(ids, list) else [ids])


def text_config(config: dict) -> dict:
    return config.get("text_config", config)


def attempt(directory: Path, case: Case, number: int):
    """Draws weights and a prompt; returns them with the continuation, if they make a fair test."""
    seed = (case.name, number)
    state = random_state_dict(directory, seed, DTYPES[case.dtype], case.own_head)
    stored = {stored_name(name, case.names): tensor for name, tensor in state.items()}
    stored = experts.spelled(stored, case.experts)
    for name, shape in case.extra.items():
        stored[name] = torch.from_numpy(rng_for(seed, name).standard_normal(shape)).to(DTYPES[case.dtype])
    vocabulary = text_config(case.config)["vocab_size"]
    ids = rng_for(seed, "ids").integers(4, vocabulary, case.length)
    reference = Reference(directory, state=stored)
    if case.dtype != "f32" and reference.route_margin(ids) < MIN_ROUTE_MARGIN:
        return None
    greedy, margins = [], []
    for token, margin in itertools.islice(reference.greedy(ids[: case.prompt]), case.greedy):
        if margin < MIN_MARGIN or token in end_of_sequence(case.config):
            return None
        greedy.append(token)
        margins.append(margin)
    if len(set(greedy)) < MIN_DISTINCT:
        return None
    if relative_error(Reference(directory, "f32", stored).logits(ids), reference.logits(ids)) > MAX_F32_ERROR:
        return None
    if case.dtype != "f32":
        half = Reference(directory, case.dtype, stored).logits(ids)
        if relative_error(half, reference.logits(ids)) > MAX_HALF_ERROR:
            return None
    return stored, ids, greedy, margins


def check_variants(directory: Path, case: Case, state: dict, ids, logits) -> str:
    """Runs the case's variants; returns the least change that any of them made."""
    least = (np.inf, "")
    for variant in case.variants:
        changed = json.loads((directory / "config.json").read_text())
        text_config(changed).update(variant.config)
        zeroed = {
            name: torch.zeros_like(tensor) if variant.zero and variant.zero in name else tensor
            for name, tensor in experts.fused(state).items()
        }
        if variant.change:
            zeroed = {name: variant.change(name, tensor) for name, tensor in zeroed.items()}
        with tempfile.TemporaryDirectory() as other, contextlib.ExitStack() as replaced:
            write_json(Path(other) / "config.json", changed)
            wrong = Reference(Path(other), state=zeroed)
            if variant.patch:
                variant.patch(wrong.model)
            for name, function in variant.replace.items():
                replaced.enter_context(mock.patch.object(sys.modules[type(wrong.model).__module__], name, function))
            change = relative_error(wrong.logits(ids), logits)
        if change < variant.least:
            raise RuntimeError(f"{case.name}: with {variant.label} the logits hardly change ({change:.1e})")
        least = min(least, (change, variant.label))
    return f"{least[0]:.2g} ({least[1]})" if case.variants else "-"


def make(case: Case) -> None:
    directory = FIXTURES / case.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    write_config(directory, case)
    number, found = 0, None
    while found is None:
        found, number = attempt(directory, case, number), number + 1
        if number > 1000:
            raise RuntimeError(f"{case.name}: no fair draw in {number} attempts")
    state, ids, greedy, margins = found
    save_weights(directory, state, case.layout)

    # From the files as they lie on disk.
    reference = Reference(directory)
    logits = reference.logits(ids)
    arrays = {
        "input_ids": ids,
        "logits": logits,
        "prompt_len": np.array([case.prompt]),
        "greedy": np.array(greedy),
        "greedy_margin": np.array(margins),
    }
    report = f"f32 {relative_error(Reference(directory, 'f32').logits(ids), logits):.1e}"
    if case.dtype != "f32":
        low = Reference(directory, case.dtype).logits(ids)
        arrays[f"logits_{case.dtype}"] = low
        report += f"  {case.dtype} {relative_error(low, logits):.1e} (rms {rms_error(low, logits):.1e})"
    save_expected(directory / "expected.safetensors", arrays, ABOUT | {"draw": number - 1})
    weakest = check_variants(directory, case, state, ids, logits)
    size = sum(file.stat().st_size for file in directory.iterdir()) // 1024
    print(
        f"{case.name:20} {size:4} KB  draw {number - 1:2}  transformers' error: {report}  "
        f"margin {min(margins):.3f}  logits sd {logits.std():.2f}  weakest variant {weakest}",
        flush=True,
    )


def main() -> None:
    torch.set_num_threads(1)  # The same order of additions everywhere.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wanted = sys.argv[1:]
    for case in CASES:
        if not wanted or case.name in wanted:
            make(case)


if __name__ == "__main__":
    main()
