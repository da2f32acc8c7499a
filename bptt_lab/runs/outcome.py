"""How a run ended: exceptions, exit codes, and the one place that writes the end down.

A run that ends writes its own status.json (`conclude`). A launcher whose job's process has ended
fills in what the job could not write (`conclude_process`).
"""

import signal
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from bptt_lab import runs
from bptt_lab.core.messages import escaped, printable
from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import Run, Written, lock

COMPLETED, FAILED, REFUSED, DIVERGED, INTERRUPTED = 0, 1, 2, 3, 130
program = "bptt-train"  # begins each line on stderr; every command sets its own name
TIME_LIMIT = "over its time limit"  # how the reason of a job that took too long begins


class Interrupted(BaseException):
    """A signal stopped the run; no error of its own, so `except Exception` lets it pass."""

    def __init__(self, number: int) -> None:
        self.number = signal.Signals(number)
        super().__init__(f"interrupted by {self.number.name}")

    @property
    def exit_code(self) -> int:
        """The shell's code for a process that a signal ended."""
        return 128 + self.number


class Diverged(Exception):
    """The loss or the gradient is no longer finite; the parameters still are."""


class CheckpointError(Exception):
    """A checkpoint cannot be written or read; the message names the file and the way out."""


class Unfit(CheckpointError):
    """A whole checkpoint that a run cannot go on from."""


ONE_LINE = (ConfigError, Interrupted, Diverged, CheckpointError)  # the message says it all


def conclude(folder: Path, error: BaseException) -> int:
    """Write down what ended a run early, unless its other processes have; return the exit code."""
    if isinstance(error.__context__, KeyboardInterrupt) and isinstance(error, SystemExit):
        error = error.__context__  # Lightning ends the process for it
    status, code = _status_and_code(error)
    if runs.read_status(folder) in ("running", "unreadable"):
        # A run that failed for want of a disk goes on from its checkpoint.
        raised = status == "failed" and not isinstance(error, CheckpointError)
        kind = "" if isinstance(error, ONE_LINE) else f"{type(error).__name__}: "
        runs.write_status(folder, status, f"{kind}{error}".removesuffix(": "), raised=raised)
    if not isinstance(error, SystemExit):
        report(error)
    return code


def tell(message: str) -> None:
    """Say on one line of stderr what was found on the way."""
    print(f"{program}: {printable(message)}", file=sys.stderr, flush=True)


def start_anew(folder: Path, why: str) -> None:
    """Set aside what a run left in its folder, and say so."""
    if aside := runs.set_aside(folder):
        tell(f"{folder}: {why}, so the run starts anew; what it left is in {aside.name}")


def report(error: BaseException) -> None:
    """Print an error: one line where the message says it all, otherwise the traceback."""
    if isinstance(error, (*ONE_LINE, KeyboardInterrupt)):
        tell(str(error) or "interrupted")
        return
    text = escaped("".join(traceback.format_exception(error)))
    print(text, end="", file=sys.stderr, flush=True)


def _status_and_code(error: BaseException) -> tuple[Written, int]:
    if isinstance(error, Interrupted):
        return "interrupted", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, Diverged):
        return "diverged", DIVERGED
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return "failed", error.code or FAILED  # of a process of the run, which has said why
    return "failed", REFUSED if isinstance(error, ConfigError) else FAILED


def mark(folder: Path) -> tuple[int, int]:
    """Return inode and time of a folder's status.json: others once it was written again."""
    try:
        stat = (folder / runs.STATUS).stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_ino, stat.st_mtime_ns


def conclude_process(folder: Path, before: tuple[int, int], ended: str, asked: str = "") -> Run:
    """Have status.json say how a run stands whose process has ended, and return the run.

    `before` is the folder's mark before the process started, `ended` its `exit_reason`, `asked` why
    the launcher asked it to stop, if it did.
    """
    said = runs.read_status(folder)
    silent = mark(folder) == before or said in ("waiting", "running", "unreadable")
    if silent and asked.startswith(TIME_LIMIT) and "SIGKILL" in ended:
        status: tuple[Written, str] = "failed", f"{asked}, and would not stop"
    elif asked and (silent or said == "interrupted"):
        status = "interrupted", asked
    elif silent:
        status = "failed", ended
    else:
        return runs.read_run(folder)
    if writer := lock.holder(folder):  # it says how the run stands, not the process that ended
        return replace(runs.read_run(folder), status="failed", reason=f"{writer} is writing it")
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_status(folder, *status)
    return runs.read_run(folder)


def exit_reason(code: int) -> str:
    """Say what a process ended by, from its exit code, which is negative for a signal."""
    if code >= 0:
        return f"its process ended with exit code {code} before the run did"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"killed by {name}{memory}"
