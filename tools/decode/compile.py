"""Compiles every model of `models.py` and prints what the assembler reports.

    python tools/decode/compile.py [arch ...]    (of 80, 90a, 120)
"""

import re
import sys
import time

from models import FULL, SMALL
from source import cubin

GRID = {"80": 108, "90a": 132, "120": 170}

if __name__ == "__main__":
    words = [a for a in sys.argv[1:] if a not in GRID]
    for arch in [a for a in sys.argv[1:] if a in GRID] or GRID:
        for model in SMALL + FULL:
            if words and not any(w in model.name for w in words):
                continue
            start = time.time()
            try:
                data, log = cubin(model, arch, GRID[arch])
            except RuntimeError as e:
                print(arch, model.name, str(e)[:1500])
                continue
            found = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
            registers = re.search(r"Used (\d+) registers", log)
            print(f"sm_{arch:4} {model.name:22} {len(data):7} bytes",
                  f"stack {found[1]} spills {found[2]}/{found[3]} registers {registers[1]}" if found else "kept",
                  f"{time.time() - start:.1f} s", flush=True)
