"""Peak memory of one call, in a process of its own.

The call is made once, so that libraries are loaded and code is compiled, and then again: the result
is what the peak rose by. Below a megabyte it is rough, for the system counts pages.
"""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from bptt_lab.training import fork_server

# How torch says, on a CPU and a GPU, and JAX, that memory ran out: all by a RuntimeError.
OUT_OF_MEMORY = "can't allocate memory", "out of memory", "RESOURCE_EXHAUSTED"


class Unmeasured(Exception):
    """Why there is no peak: the process died, memory ran out, or the system does not count."""


def peak(prepare: Callable[..., Callable[[], Any]], *arguments: Any, device: str = "cpu") -> int:
    """Measure a call's peak memory, in bytes above that of the process before the call.

    Args:
        prepare: a function of a module that makes the call, in the new process.
        arguments: of `prepare`; they are pickled.
        device: "cpu", or "cuda" for what torch's allocator hands out on a GPU.

    Raises:
        Unmeasured: where the process died, memory ran out, or the system does not count.
        Exception: what else the call raised.
    """
    fork_server.load(prepare.__module__)
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as process:
        try:
            return process.submit(_measure, prepare, arguments, device).result()
        except (BrokenProcessPool, MemoryError, OSError) as error:
            raise Unmeasured(f"{type(error).__name__}: {error}") from error
        except RuntimeError as error:
            if any(words in str(error) for words in OUT_OF_MEMORY):
                raise Unmeasured(f"{type(error).__name__}: {error}") from error
            raise


def rise(call: Callable[[], Any]) -> int:
    """Return the bytes by which the process's peak rises in a call that was made once before.

    Raises:
        OSError: where the system does not count.
    """
    gc.collect()
    # glibc keeps freed memory, which the next pass would use again unseen.
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        raise OSError("the system does not say how high memory rose")
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = _high_water()
    call()
    return _high_water() - before


def _measure(
    prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...], device: str
) -> int:
    fork_server.unblock()
    call = prepare(*arguments)
    call()
    return rise(call) if device == "cpu" else _rise_on_gpu(call)


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not say how high memory rose")


def _rise_on_gpu(call: Callable[[], Any]) -> int:
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    risen = torch.cuda.max_memory_allocated() - before
    if not risen:
        raise OSError("torch's allocator was not used")
    return risen
