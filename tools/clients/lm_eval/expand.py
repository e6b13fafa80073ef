"""The demo model with its weights in float32: `python expand.py DIR`.

In bfloat16 a model's probabilities are as rough as bfloat16 is. In float32 two programs that compute the same have the
same to 1e-3, so that this model's can be held against transformers'.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tools/reference"))
from dequantize import dequantize  # noqa: E402

DEMO = ROOT / "assets/models/qwen3-demo"


def stored(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of the file: packed integers as they are, floats (which are bfloat16) as float32."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data[begin:end], "<u2").astype("<u4") << 16).view("<f4")
        elif entry["dtype"] == "U32":
            values = np.frombuffer(data[begin:end], "<u4")
        else:
            raise SystemExit(f"{path}: {name} is {entry['dtype']}, which the demo model did not have")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def expanded() -> dict[str, np.ndarray]:
    """The tensors in float32, quantized ones dequantized."""
    packed = json.loads((DEMO / "config.json").read_text())["quantization"]
    tensors = stored(DEMO / "model.safetensors")
    whole = {}
    for name, values in tensors.items():
        stem = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if f"{stem}.scales" in tensors:
            parts = (values, tensors[f"{stem}.scales"], tensors[f"{stem}.biases"])
            values = dequantize(*parts, packed["mode"], packed["group_size"], packed["bits"])
        whole[name] = np.ascontiguousarray(values, dtype=np.float32)
    return whole


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((DEMO / "config.json").read_text())
    config = {name: value for name, value in config.items() if not name.startswith("quantization")}
    config["torch_dtype"] = "float32"
    (target / "config.json").write_text(json.dumps(config, indent=2))
    save_file(expanded(), str(target / "model.safetensors"), {"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO / name, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
