"""The decode kernel compiled for this processor, see `emulated.h`. Needs g++ and no GPU."""

import ctypes
import hashlib
import random
import re
import subprocess
import tempfile
from pathlib import Path

from source import FOLDER, defines, files, name

# Few blocks, since each is hundreds of fibers, but more than row blocks have ends, and than tokens go together.
GRID = 9
HEADER = Path(__file__).parent / "emulated.h"
# What the header stands for.
INSTRUCTIONS = ["instructions.cuh", "../../cuda/tiles.cuh"]

ENTRY = """
EMULATED_ENTRY bool launch(u64 seed, const u64* arguments) {{
    return emulated::launch_kernel(GRID, WARPS, SMEM, seed, {kernel}, arguments);
}}
"""


def with_array(kernel):
    """The kernel with the emulator's shared memory."""
    return re.sub(r"extern __shared__.*? (\w+)\[\];", r"unsigned char* \1 = emulated::array();", kernel)


def text(m, arch, tokens):
    kernel = with_array("".join((FOLDER / f).read_text() for f in files(tokens) if f not in INSTRUCTIONS))

    def variables(match):
        names = [n.strip() for n in match[1].split(",")]
        return " ".join(f"u32& {name} = emulated::cell({i});" for i, name in enumerate(names))

    kernel, found = re.subn(r"__shared__ u32 ([^;]*);", variables, kernel)
    assert found <= 1 and "__shared__" not in kernel, "the cells of two declarations would be the same"
    return (defines(m, arch, GRID, tokens=tokens) + "#define THREADS (WARPS * 32)\n" + HEADER.read_text()
            + kernel.replace("#define THREADS (WARPS * 32)\n", "") + ENTRY.format(kernel=name(tokens)))


def compiled(source):
    """The library, kept from run to run."""
    folder = Path(tempfile.gettempdir()) / "decode-emulated"
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(source.encode()).hexdigest()[:24]
    library = folder / f"{name}.so"
    if not library.exists():
        (folder / f"{name}.cpp").write_text(source)
        command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-o", f"{library}", f"{folder / name}.cpp"]
        subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


class Kernel:
    """Launches with the arguments of `decode_token`, or of `decode_tokens`: addresses, then int32s."""

    def __init__(self, m, tokens=1, arch="90a"):
        self.launch = compiled(text(m, arch, tokens)).launch
        self.launch.restype = ctypes.c_bool

    def __call__(self, addresses, numbers):
        words = [*addresses, *(n & 0xFFFFFFFF for n in numbers)]
        if not self.launch(ctypes.c_ulonglong(random.getrandbits(64)), (ctypes.c_ulonglong * len(words))(*words)):
            raise RuntimeError("every thread waits for another")
