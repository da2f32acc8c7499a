"""How many CUDA GPUs a process on this machine would see, without torch."""

import functools
import os
import subprocess
import sys

# In a process of its own: once the driver is initialised here, a forked child could not use it.
_ASK = """
import ctypes, sys
cuda, number = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(number)):
    sys.exit(1)
print(number.value)
"""


def count() -> int:
    """Ask the CUDA driver; without a driver, or with all GPUs hidden, the answer is 0."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip()
    return 0 if visible in ("", "-1") else _ask(visible)


@functools.cache
def _ask(visible: str) -> int:
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ASK], capture_output=True, text=True, check=False
    )
    return int(answer.stdout) if answer.returncode == 0 else 0
