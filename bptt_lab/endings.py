"""How a run can end before its time, other than by an error that nobody foresaw."""

from __future__ import annotations

import signal


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
