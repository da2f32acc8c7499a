"""How a job stands once its process has ended: its own word if it left one, else what is known."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

from bptt_lab import runs
from bptt_lab.runs import Run, Status


class Mark(NamedTuple):
    """Which status.json a folder holds, to tell whether it was written again."""

    inode: int = 0
    modified: int = 0


def mark(folder: Path) -> Mark:
    """Mark a folder's status.json before a process may write it."""
    try:
        stat = (folder / runs.STATUS).stat()
    except FileNotFoundError:
        return Mark()
    return Mark(stat.st_ino, stat.st_mtime_ns)


def conclude(folder: Path, before: Mark, ended: str, asked: str = "") -> Run:
    """Have status.json say how a run stands whose process has ended.

    Args:
        folder: the run folder.
        before: its mark before the process started.
        ended: what the process ended by, as `exit_reason` puts it.
        asked: why the launcher asked it to stop; empty where it did not.

    Returns:
        The run.
    """
    run = runs.read_run(folder)
    silent = mark(folder) == before or run.status in ("waiting", "running")
    verdict: tuple[Status, str] | None = None
    if silent and asked.startswith(LIMIT):
        verdict = "failed", f"{asked}, and would not stop"
    elif silent and asked:
        verdict = "interrupted", asked
    elif silent:
        verdict = "failed", ended
    elif asked and run.status == "interrupted":
        verdict = "interrupted", asked
    if verdict is None:
        return run
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_status(folder, *verdict)
    return runs.read_run(folder)


LIMIT = "over its time limit"


def exit_reason(code: int) -> str:
    """Say what a process ended by.

    Args:
        code: its exit code, negative for a signal.
    """
    if code >= 0:
        return f"its process ended with exit code {code} before the run did"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"killed by {name}{memory}"
