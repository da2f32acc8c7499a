"""Sweeps run as a user runs them: by a command, in a folder of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, TypeVar

from commands import Forked, Fresh

from bptt_lab import runs

Started = TypeVar("Started", Forked, Fresh)

HERE = Path(__file__).parent
SMALL = (
    "model.hidden_size=4", "dataset=digits", "dataset.layout=rows", "num_threads=1",
    "callbacks=none",
)  # fmt: skip
# A run of 41 steps that takes a fraction of a second.
TINY = (*SMALL, "trainer.max_epochs=1")
UNRULY = ("--config-dir", str(HERE / "conf"), "allow=[unruly]", "optimizer=unruly")


def start(cwd: Path, *arguments: str, how: type[Started] = Forked) -> Started:
    """Start bptt-train in a folder."""
    main = "bptt_lab.commands.train.cli:main"
    return how(main, arguments, cwd, {"PYTHONPATH": str(HERE)})


def run(cwd: Path, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run bptt-train to its end."""
    command = start(cwd, *arguments, **how)
    out, err = command.communicate()
    return subprocess.CompletedProcess(arguments, command.wait(), out, err)


def checkpoints(cwd: Path) -> list[Path]:
    """The checkpoints of the sweep's jobs."""
    return [*cwd.glob("outputs/*/*/checkpoints/last.ckpt")]


def said(cwd: Path, text: str) -> list[Path]:
    """The logs of the sweep's jobs that hold a text."""
    return [log for log in cwd.glob("outputs/*/*/log.txt") if text in log.read_text()]


def ended(cwd: Path) -> list[runs.Run]:
    """The sweep's jobs that have ended by themselves."""
    return [job for job in jobs(cwd) if job.status not in ("waiting", "running")]


def sweep_dir(cwd: Path) -> Path:
    """The one sweep's folder."""
    (folder,) = (cwd / "outputs").glob("*_sweep")
    return folder


def jobs(cwd: Path) -> list[runs.Run]:
    """What became of its jobs."""
    return runs.read_sweep(sweep_dir(cwd))


def papers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "sweep.json").read_text())
