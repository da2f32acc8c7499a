"""Optuna's journal of a search: a file of lines that only grows.

Optuna's own locks for it are files that outlive a killed process; here the lock is that of the
sweep's folder. A last line cut short by a power failure is cut off; nobody has acted on it yet.
"""

from __future__ import annotations

from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

from bptt_lab.runs import files

JOURNAL = "search.journal"


class _Ours(JournalFileOpenLock):
    """The lock of a journal that is locked already, for as long as the search takes."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def opened(sweep_dir: Path) -> JournalStorage:
    """Open a search's journal, or a new one, in a sweep folder that this process holds."""
    path = sweep_dir / JOURNAL
    files.writing(path, "append").close()
    with files.writing(path, "over") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path), _Ours(str(path))))
