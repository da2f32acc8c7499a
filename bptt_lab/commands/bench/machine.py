"""What the numbers were measured on, in one line."""

from __future__ import annotations

import os
import platform
from collections.abc import Container
from importlib.metadata import version
from pathlib import Path


def cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def describe(device: str, contestants: Container[str], precisions: Container[str]) -> str:
    """Processor, cores, versions and the kernel that VanillaRNN runs on."""
    import torch

    parts = [f"{_processor()}, {cores()} cores"]
    if device == "cuda":
        parts.append(
            f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
        )
    parts.append(f"torch {torch.__version__}")
    if "jax" in contestants:
        jax = version("jax")
        parts.append(f"jax {jax} with XLA's thread pool sized by PJRT_NPROC")
    return "; ".join([*parts, f"kernel: {_kernel(device, precisions)}"])


def _kernel(device: str, precisions: Container[str]) -> str:
    if device == "cuda":
        return "operations of torch"
    from bptt_lab.core.kernels import core

    isa = core.instruction_set()
    if isa is None:
        return "operations of torch, because the C core was not built"
    return f"C core, {isa}" + " (bfloat16: operations of torch)" * ("bfloat16" in precisions)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
