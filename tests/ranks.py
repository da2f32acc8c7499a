"""What the processes of a run do in the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from bptt_lab.runs.job import Job
from bptt_lab.training import train as training


def train_and_keep(config: Any, folder: Path, job: Job) -> None:
    """Train, and keep this process's own parameters."""
    kept = []
    build = training.build
    training.build = lambda config: kept.append(build(config)) or kept[0]
    training.train(config, folder, job)
    torch.save(kept[0].module.state_dict(), folder / f"rank{os.environ['LOCAL_RANK']}.pt")


def fail_on_one(stderr: Path) -> None:
    """Fail in the second process; the first would go on for ever."""
    if os.environ["LOCAL_RANK"] == "1":
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
        raise ValueError("one is broken")
    signal.pause()
