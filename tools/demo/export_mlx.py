"""Turns trained weights into the shipped 8-bit MLX checkpoint, through mlx-lm's own conversion code.

    python tools/demo/export_mlx.py --family qwen3 --weights build/qwen3/weights.safetensors

Writes model.safetensors, its index and config.json (now with `quantization`) into the model's
directory, or into a copy of that directory with --to.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from layout import DEMOS

GROUP_SIZE, BITS = 64, 8
MAX_BYTES = 6_000_000


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=DEMOS, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="weights.safetensors, as train.py writes it")
    parser.add_argument("--to", type=Path, help="write here instead of assets/models")
    return parser.parse_args()


def main() -> None:
    """Load as mlx-lm loads, cast to bfloat16, quantize, save as mlx-lm saves."""
    args = parse()
    source = DEMOS[args.family].directory
    target = args.to or source
    if target != source:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.safetensors*", "*.md"))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder)
        config = json.loads((source / "config.json").read_text())
        config = {key: value for key, value in config.items() if not key.startswith("quantization")}
        (plain / "config.json").write_text(json.dumps(config))
        shutil.copy(args.weights, plain / "model.safetensors")
        model, config = load_model(plain)
        model.update(tree_map(lambda array: array.astype(mx.bfloat16), model.parameters()))
        model, config = quantize_model(model, config, group_size=GROUP_SIZE, bits=BITS)
        save_model(target, model)
        save_config(config, target / "config.json")
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{target}: {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"larger than {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
