"""Optuna's journal of a search: a file of lines that only grows.

Optuna's own locks for it are files that outlive a killed process, and a line cut short by a power
failure would make the journal unreadable once another line follows. Here the lock is the kernel's.
An incomplete last line is cut off first; nobody has acted on it yet.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

from bptt_lab.core.validation import ConfigError

JOURNAL = "search.journal"


class _Ours(JournalFileOpenLock):
    """The lock of a journal that is locked already, for as long as the search takes."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def opened(sweep_dir: Path) -> Iterator[JournalStorage]:
    """Open a search's journal for this process alone; a new one where there is none.

    Raises:
        ConfigError: where another process has it open.
    """
    path = sweep_dir / JOURNAL
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"resume={sweep_dir}: another process is searching there; wait for it, or stop it"
            ) from error
        file.seek(0)
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
        yield JournalStorage(JournalFileBackend(str(path), _Ours(str(path))))
