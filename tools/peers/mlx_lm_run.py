"""Times mlx-lm's own loop on a model directory: one repetition after a warm-up, as one JSON line."""
import argparse
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

import timing


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    timing.add_arguments(parser)
    a = parser.parse_args()
    mx.set_default_device(mx.cpu if a.device == "cpu" else mx.gpu)
    model, config = load_model(a.model)
    vocabulary = config.get("vocab_size", 1000)
    prompt = mx.random.randint(16, vocabulary, (a.prompt,))
    mx.eval(prompt)

    for gen in (min(8, a.gen), a.gen):  # the first is the warm-up
        start, first = time.perf_counter(), None
        for _ in generate_step(prompt, model, max_tokens=gen + 1):
            first = first or time.perf_counter()
        end = time.perf_counter()
    timing.report("mlx-lm", a, start, first, end, device=a.device, mlx_peak_memory_bytes=mx.get_peak_memory())


main()
