"""Peak memory of one strategy's forward and backward pass, in a process of its own.

Each process is forked from one that has torch loaded and has computed nothing. It makes one pass,
hands freed memory back to the system, starts the system's count of its peak anew and makes another;
the result is what the peak rose by. Below a megabyte it is rough, for the system counts pages.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from bptt_lab.commands.compare.question import Option
from bptt_lab.config.schema import Experiment


def peak(experiment: Experiment, checkpoint: Path | None, option: Option) -> int | None:
    """Bytes above a process that holds batch and network; None where they cannot be counted."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bptt_lab.commands.compare.subject"])
    with ProcessPoolExecutor(1, context) as process:
        try:
            return process.submit(_measure, experiment, checkpoint, option).result()
        except OSError:  # another system, or one that hides what a process takes
            return None
        except RuntimeError:  # the process is gone, most likely for want of memory
            return None


def rise(call: Callable[[], Any]) -> int:
    """Bytes by which the process's peak rises in a call that was made once before.

    Raises:
        OSError: where the system does not count.
    """
    gc.collect()
    # glibc keeps freed memory, which the next pass would use again unseen.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = _high_water()
    call()
    return _high_water() - before


def _measure(experiment: Experiment, checkpoint: Path | None, option: Option) -> int:
    from bptt_lab.commands.compare.subject import make, prepare

    subject, strategy = prepare(experiment, checkpoint), make(option)
    subject.gradient(strategy)
    return rise(lambda: subject.gradient(strategy))


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("the system does not say how high memory rose")
