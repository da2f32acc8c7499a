"""Stdout and stderr as a run needs them: it does not depend on who reads them.

A reader may be gone (`| head -1`), slow (a pager), or nobody (`>&-`), and a disk may be full. In
`lasting` streams no print raises an error, and none waits. What a reader does not take at once is
kept for the next print, and at the end for as long as it still takes some of it.
"""

import io
import os
import select
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

PATIENCE = 5.0  # seconds in which a reader takes nothing, before the rest is dropped at the end
KEPT = 2**20  # bytes of what has not been taken yet; older ones are dropped
AT_ONCE = 512  # bytes that fit wherever there is any room


class _Lasting(io.RawIOBase):
    """Writes to a file descriptor what its reader takes, and says that it took all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._left = descriptor, bytearray()
        self._own = _unblocked(descriptor)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:  # whatever has bytes
        self._left += data
        self.send()
        del self._left[:-KEPT]
        return len(data)

    def close(self) -> None:
        if not self.closed and self._own != self._descriptor:
            os.close(self._own)
        super().close()

    def send(self, patience: float = 0.0) -> None:
        """Write what is left until the reader takes no more, for some seconds if need be."""
        room = select.poll()
        room.register(self._own, select.POLLOUT)
        try:
            while self._left and room.poll(1000 * patience):
                # Ctrl-C comes before or after; in between the same would be written once more.
                before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
                try:
                    del self._left[: os.write(self._own, self._left[:AT_ONCE])]
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BlockingIOError:
            pass
        except OSError:  # nobody reads, or there is no room on the disk
            self._left.clear()


def _unblocked(descriptor: int) -> int:
    """Open a pipe or a terminal once more, since not to wait is a property of what was opened.

    Set on the descriptor itself, it would be so for all processes of that terminal.
    """
    with suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/dev/fd/{descriptor}", flags)
    return descriptor


@contextmanager
def lasting() -> Iterator[None]:
    """Have stdout and stderr take whatever is printed, where they are a file, pipe or terminal."""
    before = sys.stdout, sys.stderr
    raws = []
    for name, stream in zip(("stdout", "stderr"), before, strict=True):
        with suppress(OSError):  # a stream in memory has no descriptor
            raws.append(raw := _Lasting(stream.fileno()))
            with suppress(OSError):
                stream.flush()
            setattr(sys, name, _text(raw, stream.encoding, stream.errors))
    try:
        yield
    finally:
        for raw in raws:
            raw.send(PATIENCE)
        sys.stdout, sys.stderr = before


def log(descriptor: int) -> TextIO:
    """Open a lasting stream on a file that is open for as long."""
    return _text(_Lasting(descriptor), "utf-8", "backslashreplace")


def _text(raw: _Lasting, encoding: str, errors: str | None) -> TextIO:
    # No buffer between them: it would write again what was interrupted.
    whole: Any = raw
    return io.TextIOWrapper(whole, encoding, errors, line_buffering=True)


def progress(text: str) -> None:
    """Show on a terminal, on a line of its own, what is being done; an empty text wipes it out."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[: width()]}", end="", file=sys.stderr, flush=True)


def width() -> int:
    """How many characters a line of the terminal holds that stderr is."""
    with suppress(OSError):
        return (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
    return 79


def loading(library: str) -> None:
    """Say that a library is being imported, which takes seconds; nothing where it is already."""
    if library not in sys.modules:
        text = f"loading {library} ..."
        progress(text) if sys.stderr.isatty() else print(text, file=sys.stderr, flush=True)


def open_closed() -> None:
    """Open what the shell has closed, as by `>&-`, on /dev/null.

    The next file that is opened would take its number, and get what is printed there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # open to the end
