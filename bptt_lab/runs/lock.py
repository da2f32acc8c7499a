"""One run, one writer: the lock of a run or sweep folder.

It is the kernel's, on the file `.lock`, so it is gone once its process is, whatever that died of.
"""

import fcntl
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import files

LOCK = ".lock"
PATIENCE = 1.0  # seconds that a killed process may take to be gone
OURS: dict[Path, "Lock"] = {}  # by folder
TAKEN: list[Path] = []  # folders that this process has ever held, in their order


class Lock:
    """A folder's lock; a process that `multiprocessing` starts with it has it as well."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return Lock._received, (reduction.DupFd(self.descriptor),)

    @classmethod
    def _received(cls, sent: Any) -> "Lock":
        return cls(sent.detach())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder, where there is none, and hold it for this process alone.

    Raises:
        ConfigError: naming the process that holds it, or why it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = files.writing(folder / LOCK, "append")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror})") from error
    with file:
        end = time.monotonic() + PATIENCE
        while not _taken(file.fileno()):
            if time.monotonic() > end:
                _, who = _holder(folder)
                way_out = f"wait until it has ended, or stop it, then resume={folder}"
                raise ConfigError(f"{folder}: {who} is writing it; {way_out}")
            time.sleep(PATIENCE / 20)
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}\n".encode())
        file.flush()
        OURS[folder] = Lock(file.fileno())
        TAKEN.append(folder)
        try:
            yield
        finally:
            del OURS[folder]


def holder(folder: Path) -> str:
    """Say which process holds a folder; empty where none does that is still there."""
    try:
        with files.reading(folder / LOCK) as file:
            if _taken(file.fileno()):
                return ""
    except OSError:
        return ""
    pid, who = _holder(folder)
    return who if pid is None or Path(f"/proc/{pid}").exists() else ""


def _taken(descriptor: int) -> bool:
    """Take the lock of an open file, unless another has it; some file systems have no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _holder(folder: Path) -> tuple[str | None, str]:
    """The number of the process that took the lock, where it is one of this machine; and words."""
    said = ""
    with suppress(OSError), files.reading(folder / LOCK) as file:
        said = file.read(100).decode(errors="replace").strip()
    if not re.fullmatch(r"\d+ on [\w.-]+", said):
        return None, "another process"
    pid, _, host = said.partition(" on ")
    return (pid, f"process {pid}") if host == platform.node() else (None, f"process {said}")
