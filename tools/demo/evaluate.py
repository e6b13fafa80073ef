"""Exact-match accuracy of a shipped checkpoint through mlx-lm, greedy.

    python tools/demo/evaluate.py assets/models/qwen3-demo

Asks the held-out questions, and then the closed set (small talk, the days and the months) that training
knows. Exits 1 if fewer than 97% of the held-out questions are answered exactly.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

import mlx.core as mx
from mlx_lm import load, stream_generate

from layout import HELDOUT
from questions.talk import closed_set
from questions.tasks import calendar

BAR = 0.97
LIMIT = 64


def ask(model, tokenizer, prompt: str) -> str:
    """The whole answer to one question without a system message."""
    ids = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
    return "".join(piece.text for piece in stream_generate(model, tokenizer, ids, max_tokens=LIMIT))


def report(title: str, model, tokenizer, questions: Iterable[tuple[str, str, str]]) -> float:
    """Prints right and asked per task and every wrong answer; returns the share of right ones."""
    tally, began = {}, time.time()
    for task, prompt, expected in questions:
        got = ask(model, tokenizer, prompt)
        right, asked = tally.get(task, (0, 0))
        tally[task] = (right + (got == expected), asked + 1)
        if got != expected:
            print(f"  {prompt!r}: expected {expected!r}, got {got!r}")
    right, asked = (sum(column) for column in zip(*tally.values(), strict=True))
    print(f"{title}: {right}/{asked} = {right / asked:.2%} in {time.time() - began:.0f} s")
    print("  " + ", ".join(f"{task} {r}/{a}" for task, (r, a) in tally.items()))
    return right / asked


def main() -> None:
    """Held-out questions, then the closed set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--float32", action="store_true", help="compute in float32 instead of the checkpoint's bfloat16")
    args = parser.parse_args()
    model, tokenizer = load(str(args.model))
    if args.float32:
        model.set_dtype(mx.float32)
    lines = (HELDOUT / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = [(q["task"], q["prompt"], q["answer"]) for q in map(json.loads, lines)]
    share = report("held-out", model, tokenizer, held_out)
    report("closed set", model, tokenizer, [(q.task, q.prompt, q.answer) for q in closed_set() + calendar()])
    if share < BAR:
        raise SystemExit(f"below {BAR:.0%}")


if __name__ == "__main__":
    main()
