"""Peak memory of one forward and backward pass, in a process of its own.

The process prepares a contestant and makes one pass, so that libraries are loaded and code is
compiled; it then hands freed memory back to the system, starts the system's count of its peak
anew, and makes another pass. The result is what the peak rose by: bytes above a process that holds
the input, the credit and the weights. Below a megabyte it is rough, for the system counts pages.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bptt_lab.commands.bench.contestant import UnavailableError
from bptt_lab.commands.bench.contestants import CONTESTANTS
from bptt_lab.commands.bench.workload import PRECISIONS, Shape


def peak(shape: Shape, contestant: str, precision: str, device: str, threads: int) -> int | None:
    """Bytes above the prepared process; None where the contestant's memory cannot be seen.

    Raises:
        UnavailableError: where the system does not count, or the process failed.
    """
    job = json.dumps([shape, contestant, precision, device, threads])
    child = subprocess.run(
        [sys.executable, "-m", __name__, job], capture_output=True, text=True, check=False
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"{contestant}: no peak memory at {shape}: {last}")
    measured: int | None = json.loads(child.stdout)
    return measured


def _measure(
    shape: list[int], contestant: str, precision: str, device: str, threads: int
) -> int | None:
    import torch

    from bptt_lab.commands.bench.problem import draw

    torch.set_num_threads(threads)
    problem = draw(Shape(*shape), PRECISIONS[precision], device, threads)
    prepared = CONTESTANTS[contestant].prepare(problem)
    prepared.both()
    gc.collect()
    if device == "cuda":
        return _rise_on_gpu(prepared.both)
    # glibc keeps freed memory, which the next pass would use again unseen.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = _high_water()
    prepared.both()
    return _high_water() - before


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not say how high memory rose")


def _rise_on_gpu(both: Any) -> int | None:
    """As torch's allocator counts; JAX has an allocator of its own, and nothing is seen."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    both()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) or None


if __name__ == "__main__":
    print(json.dumps(_measure(*json.loads(sys.argv[1]))))
