"""A run's papers: manifest.json (what ran, where, on what) and summary.json (what came out)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bptt_lab.kernels import core

PACKAGES = ("bptt_lab", "torch", "lightning", "hydra-core", "omegaconf", "tensorboard", "numpy")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(part, path)


def signpost(kind: str, folder: Path) -> str:
    """Say where a folder is and how to open TensorBoard on it, from where the user is."""
    board = Path(sys.executable).with_name("tensorboard")
    command = "tensorboard" if shutil.which("tensorboard") else _shown(board)
    return f"{kind:<12} {_shown(folder)}\nTensorBoard  {command} --logdir {_shown(folder)}"


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative


def manifest(command: str, seed: int, device: torch.device, devices: int) -> dict[str, Any]:
    """Return what someone needs to know to get the same numbers again."""
    return {
        "command": command,
        "seed": seed,
        "device": str(device),
        "processes": devices,
        "processor": _processor(device),
        "threads": torch.get_num_threads(),
        "kernel": core.instruction_set() if device.type == "cpu" and core.available() else "torch",
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
    }


def parameter_hash(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of all parameters: their names, types, shapes and bytes, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Return the commit of the checkout that the package runs from, marked + if it was changed."""
    here = Path(__file__).parent
    if not (here.parent / ".git").exists():
        return None

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}{'+' if changed else ''}" or None
