"""Trains one demo model and writes its float32 weights and a log.

    python tools/demo/train.py --family qwen3 --out build/qwen3

The models are transformers' own Qwen3ForCausalLM and Gemma3ForCausalLM, made from the configuration in
assets/models. Loss is on answers only; AdamW, bfloat16 autocast, a cosine schedule. The weights are
saved every `--save-every` steps, so a run that is cut short leaves its last state.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

import batches
import greedy
from layout import DEMOS, SEED
from questions import tasks


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=DEMOS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory for weights.safetensors and log.json")
    parser.add_argument("--steps", type=int, default=9_000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=7, help="processes that make data")
    parser.add_argument("--save-every", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=500, help="held-out questions a task in the last evaluation")
    parser.add_argument("--no-compile", action="store_true", help="run the model without torch.compile")
    parser.add_argument("--shrink", type=int, default=1, help="divide the batch, to try the script out")
    return parser.parse_args()


def make_model(family: str, device: str) -> torch.nn.Module:
    """A fresh model; the same seed gives the same weights."""
    torch.manual_seed(SEED)
    config = AutoConfig.from_pretrained(DEMOS[family].directory)
    config._attn_implementation = "sdpa"
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)


def make_optimizer(model: torch.nn.Module, lr: float, device: str) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=device == "cuda")


def learning_rate(step: int, steps: int, peak: float) -> float:
    """A short warm-up, then half a cosine down to a hundredth of the peak."""
    warm_up = min(300, steps // 10 + 1)
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def save(model: torch.nn.Module, out: Path) -> None:
    """Weights under their transformers names; the tied head is not stored twice."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights.pop("lm_head.weight", None)
    save_file(weights, out / "weights.part", metadata={"format": "pt"})
    (out / "weights.part").replace(out / "weights.safetensors")


def evaluate(model: torch.nn.Module, family: str, per_task: int, rough: bool) -> tuple[dict, list]:
    """Exact match on fresh held-out questions, in bfloat16 as the shipped model computes."""
    questions = tasks.held_out_set(random.Random(f"{SEED}/evaluate"), per_task, rough)
    return greedy.score(model, batches.Encoder(DEMOS[family]), questions)


def train(args: argparse.Namespace, device: str) -> tuple[torch.nn.Module, list]:
    """The whole run; returns the model and (step, loss, seconds) at each report."""
    model = make_model(args.family, device)
    print(f"{args.family}: {sum(p.numel() for p in model.parameters()):,} parameters on {device}", flush=True)
    optimizer = make_optimizer(model, args.lr, device)

    def answer_loss(ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model.lm_head(model.model(input_ids=ids, use_cache=False).last_hidden_state)
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=batches.IGNORED, reduction="sum")

    if not args.no_compile:
        answer_loss = torch.compile(answer_loss, dynamic=False)
    history, began, running = [], time.time(), torch.zeros((), device=device)
    for step, parts in enumerate(batches.stream(args.family, args.steps, args.workers, args.shrink)):
        answers = sum(int((part != batches.IGNORED).sum()) for part in parts[1::2])
        on_device = [torch.from_numpy(np.ascontiguousarray(part)).to(device, non_blocking=True).long() for part in parts]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr)
        for ids, labels in zip(on_device[::2], on_device[1::2], strict=True):
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = answer_loss(ids, labels) / answers
            loss.backward()
            running += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            since = (step % 100) + 1
            history.append((step + 1, round(running.item() / since, 5), round(time.time() - began, 1)))
            running.zero_()
            if (step + 1) % 500 == 0 or step < 300:
                print(args.family, *history[-1], flush=True)
        if (step + 1) % args.save_every == 0:
            save(model, args.out)
    return model, history


def main() -> None:
    """Train, save, evaluate, report."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    model, history = train(args, device)
    save(model, args.out)
    log = {"family": args.family, "steps": args.steps, "lr": args.lr, "seed": SEED,
           "device": torch.cuda.get_device_name() if device == "cuda" else "CPU", "loss": history}
    model = model.to(torch.bfloat16).eval()
    for kind, rough in (("plain", False), ("rough", True)):
        tally, wrong = evaluate(model, args.family, args.questions, rough)
        log[kind] = {"tally": tally, "wrong": wrong[:100]}
        right, asked = (sum(column) for column in zip(*tally.values(), strict=True))
        print(f"{args.family} held-out, {kind}: {right}/{asked} = {right / asked:.2%}", flush=True)
        print("  " + "  ".join(f"{task} {r / a:.2%}" for task, (r, a) in tally.items()))
        for prompt, expected, got in wrong[:12]:
            print(f"  {prompt!r}: expected {expected!r}, got {got!r}")
    (args.out / "log.json").write_text(json.dumps(log, indent=1) + "\n")


if __name__ == "__main__":
    main()
