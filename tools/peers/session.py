"""The table of a GPU in one session: engines by turns, on a machine that needs neither cargo nor a network.

    python tools/peers/session.py BENCH_RUN [--engines ours,mlx-lm,llama.cpp] [--rows qwen3-0.6b:bf16,..] [--rounds 3]

BENCH_RUN is `bench_run` of ml-backend's examples; the peers are importable from this Python. Prints a JSON
line a repetition, and the medians on standard error."""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS = "qwen3-0.6b:bf16,qwen3-0.6b:q4,qwen3-8b:bf16,qwen3-8b:q4,qwen3-8b:q8,gemma3-1b:bf16,gemma3-1b:q4"
GGUF = {"bf16": "bf16", "q4": "q4_0", "q8": "q8_0"}


def lines(command, limit=300):
    """What a process printed as JSON; nothing, and why on standard error, if it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"took more than {limit} s: {' '.join(map(str, command))}", file=sys.stderr)
        return []
    if done.returncode != 0:
        why = (done.stderr.strip() or "no message").splitlines()[-1]
        print(f"{Path(command[0]).name} {command[1]}: {why}", file=sys.stderr)
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class Row:
    """One shape and type of weights, with what the engines read in `folder`."""

    def __init__(self, args, row, folder):
        self.args, self.folder = args, Path(folder)
        self.shape, self.weights = row.split(":")
        self.model, self.gguf = self.folder / "model", self.folder / "model.gguf"

    def prepare(self):
        engines = self.args.engines.split(",")
        if engines != ["ours"]:
            written = [self.args.bench_run, "--shape", self.shape, "--weights", self.weights, "--write", self.model]
            subprocess.run(written, check=True)
        if "llama.cpp" in engines:
            dimensions = (self.model / "shape.json").read_text()
            subprocess.run([sys.executable, HERE / "fast_gguf.py", dimensions, GGUF[self.weights], self.gguf], check=True)

    def run(self, engine):
        sizes = ["--prompt", str(self.args.prompt), "--gen", str(self.args.gen)]
        named = ["--shape", self.shape, "--weights", self.weights]
        if engine == "ours":
            repeated = ["--repeat", str(self.args.repeat), "--longer-by", str(self.args.longer_by)]
            return lines([self.args.bench_run, *named, *sizes, "--device", "cuda", *repeated])
        script, reads = {
            "mlx-lm": ("mlx_lm_run.py", [self.model, "--device", "gpu"]),
            "llama.cpp": ("llama_cpp_run.py", [self.gguf]),
        }[engine]
        named[-1] = GGUF[self.weights] if engine == "llama.cpp" else self.weights
        return lines([sys.executable, HERE / script, *reads, *named, *sizes, "--threads", "16"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench_run")
    parser.add_argument("--engines", default="ours")
    parser.add_argument("--rows", default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of ours a process")
    parser.add_argument("--longer-by", type=int, default=0, help="tokens, from repetition to repetition")
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--gen", type=int, default=256)
    args = parser.parse_args()
    for line in lines([args.bench_run, "--bandwidth", "--device", "cuda"]):
        print(json.dumps(line), flush=True)
    for name in args.rows.split(","):
        with tempfile.TemporaryDirectory() as folder:
            time_row(Row(args, name, folder), name)


def time_row(row, name):
    runs = {}
    row.prepare()
    for _ in range(row.args.rounds):
        for engine in row.args.engines.split(","):
            for line in row.run(engine):
                print(json.dumps(line), flush=True)
                runs.setdefault(engine, []).append(line)
    for engine, done in runs.items():
        prefill, decode = (statistics.median(run[k] for run in done) for k in ("prefill_tps", "decode_tps"))
        first = sorted(run["ttft_s"] * 1e3 for run in done)
        print(f"{name:16} {engine:10} n {len(done):2}  prefill {prefill:8.0f}  decode {decode:7.1f}  first token "
              f"{first[0]:.2f} to {first[-1]:.2f} ms", file=sys.stderr, flush=True)


main()
