"""Sweeps run as a user runs them: by a command, in a folder of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from bptt_lab import runs

HERE = Path(__file__).parent
# A run of 41 steps that takes a fraction of a second.
TINY = (
    "model.hidden_size=4", "dataset=digits", "dataset.layout=rows", "trainer.max_epochs=1",
    "num_threads=1",
)  # fmt: skip
UNRULY = ("--config-dir", str(HERE / "conf"), "allow=[unruly]", "optimizer=unruly")


class Driver(NamedTuple):
    """A command at work; its mark is in the environment of every process that it started."""

    process: subprocess.Popen[str]
    mark: str

    def processes(self) -> list[int]:
        """The processes that are left of it, itself included."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # gone, or somebody else's
                continue
        return found

    def kill(self) -> None:
        """Kill the command itself, as `kill -9` does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def hears_signals() -> None:
    """A background shell, or nohup, starts its processes deaf to some."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(cwd: Path, *arguments: str) -> Driver:
    """Start bptt-train in a folder."""
    mark = uuid.uuid4().hex
    environment = {**os.environ, "PYTHONPATH": str(HERE), "BPTT_TEST_MARK": mark}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("bptt-train")), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_signals,
    )
    return Driver(process, mark)


def run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run bptt-train to its end."""
    process = start(cwd, *arguments).process
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def sweep_dir(cwd: Path) -> Path:
    """The one sweep's folder."""
    (folder,) = (cwd / "outputs").glob("*_sweep")
    return folder


def jobs(cwd: Path) -> list[runs.Run]:
    """What became of its jobs."""
    return runs.read_sweep(sweep_dir(cwd))


def papers(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "sweep.json").read_text())
