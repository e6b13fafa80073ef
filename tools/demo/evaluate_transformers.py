"""Exact-match accuracy of a shipped checkpoint through transformers, on many more held-out questions.

    python tools/demo/evaluate_transformers.py --family qwen3

The 8-bit weights are expanded and run by transformers in float32 without a cache: an implementation that
shares nothing with MLX but the numbers. Questions are drawn fresh, no two of a task about the same operands.
"""

import argparse
import random

import mlx.core as mx
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import greedy
from batches import Encoder
from export_mlx import BITS, GROUP_SIZE
from layout import DEMOS, SEED
from questions.tasks import held_out_set


def expanded(path) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors in float32, quantized ones dequantized."""
    stored = mx.load(str(path))
    tensors = {}
    for name, array in stored.items():
        stem = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if f"{stem}.scales" in stored:
            array = mx.dequantize(array, stored[f"{stem}.scales"], stored[f"{stem}.biases"], GROUP_SIZE, BITS)
        tensors[name] = torch.from_numpy(np.array(array.astype(mx.float32)))
    return tensors


def load(family: str) -> torch.nn.Module:
    """transformers' model of the shipped checkpoint."""
    config = AutoConfig.from_pretrained(DEMOS[family].directory)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = expanded(DEMOS[family].directory / "model.safetensors")
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or missing not in ([], ["lm_head.weight"]):
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model.eval()


def main() -> None:
    """Plain and roughly typed questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=DEMOS, required=True)
    parser.add_argument("--questions", type=int, default=100, help="of each task, at most")
    args = parser.parse_args()
    model, encoder = load(args.family), Encoder(DEMOS[args.family])
    for kind, rough in (("plain", False), ("rough", True)):
        questions = held_out_set(random.Random(f"{SEED}/evaluate"), args.questions, rough)
        # Of like length together, so that little is padding.
        tally, wrong = greedy.score(model, encoder, sorted(questions, key=lambda question: len(question.prompt)))
        right, asked = (sum(column) for column in zip(*tally.values(), strict=True))
        print(f"{kind}: {right}/{asked} = {right / asked:.2%}")
        print("  " + ", ".join(f"{task} {r}/{a}" for task, (r, a) in sorted(tally.items())))
        for prompt, expected, got in wrong:
            print(f"  {prompt!r}: expected {expected!r}, got {got!r}", flush=True)


if __name__ == "__main__":
    main()
