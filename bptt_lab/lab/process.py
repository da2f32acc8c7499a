"""The command `bptt-train` in a process of its own, which prints where this one does.

So a run from Python has the composition, the checks, the folder and the bits of one from a command
line: it is one. It is forked from a server that has torch loaded, which takes milliseconds, and
leaves nothing behind in this process: no seed, no thread count, no handler of signals.
"""

import codecs
import fcntl
import io
import os
import pty
import re
import shutil
import signal
import struct
import sys
import termios
import threading
import traceback
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import Pipe, current_process, reduction
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from bptt_lab.core.validation import ConfigError
from bptt_lab.runs import lock, outcome
from bptt_lab.training import fork_server

COMMAND = "bptt_lab.commands.train.cli"
GRACE = 30.0  # seconds that it gets for saving, once this process is gone
SAYS = f"{outcome.program}: "  # how the line begins that says why it ends
WIPED = "\r\x1b[K"  # begins a line of progress


class Ended(NamedTuple):
    """How the command ended."""

    code: int
    folder: Path | None  # of the run or the sweep; None where it was refused before
    message: str  # why, where it did not complete


class _Relay:
    """Passes on what the command prints, but for the lines that say why it ends."""

    def __init__(self, stream: TextIO | None, *, notebook: bool = False) -> None:
        self.stream, self.notebook = stream or io.StringIO(), notebook
        self.said: list[str] = []
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begun = ""  # a line that has no end yet

    def take(self, data: bytes) -> None:
        """Pass on whole lines, and progress at once; nothing more comes after no data."""
        *lines, self._begun = (self._begun + self._decode(data)).split("\n")
        for line in lines:
            self._pass_on(f"{line}\n")
        is_said = SAYS.startswith(self._begun.split(WIPED)[-1][: len(SAYS)])
        if self._begun and ((WIPED in self._begun and not is_said) or not data):
            self._pass_on(self._begun)
            self._begun = ""
        with suppress(AttributeError, OSError, ValueError):  # a stream that only writes
            self.stream.flush()

    def _pass_on(self, text: str) -> None:
        *_, last = text.split(WIPED)
        if last.startswith(SAYS):
            self.said.append(last.removeprefix(SAYS).strip())
            text = text.removesuffix(last)
        if self.notebook:  # which knows no other code than \r
            wiped = f"\r{' ' * _width()}\r"
            text = re.sub(f"({re.escape(WIPED)})+", wiped, text)
        with suppress(OSError, ValueError):  # a closed stream
            self.stream.write(text)


def run(words: Sequence[str]) -> Ended:
    """Run `bptt-train` with some words, and wait; a KeyboardInterrupt asks it to save and stop."""
    if current_process().daemon:
        problem = "must not be in a daemonic process, such as one of multiprocessing.Pool"
        raise ConfigError(f"a run {problem}; use threads, or lab.sweep")
    notebook = is_notebook()
    relays = _Relay(sys.stdout), _Relay(sys.stdout if notebook else sys.stderr, notebook=notebook)
    drawn = notebook or _is_terminal(sys.stderr)
    (out, out_end), (err, err_end) = os.pipe(), _terminal() if drawn else os.pipe()
    told, tells = Pipe(duplex=False)
    try:
        place = os.getcwd(), [os.path.abspath(entry) for entry in sys.path], dict(os.environ)
        with _interrupts_held() as held:
            given = list(words), _Ends(out_end, err_end), tells, *place
            process = fork_server.start(_work, given)
    finally:
        for descriptor in (out_end, err_end):
            os.close(descriptor)
        tells.close()
    assert process.pid is not None
    ends = dict(zip((out, err), relays, strict=True))
    while True:
        try:
            if held:
                signal.raise_signal(held.pop())
            if _listen(ends, process.sentinel):
                break
        except KeyboardInterrupt:
            _ask(process.pid, signal.SIGINT)
        except BaseException:  # raised by the user's own handler of a signal
            _ask(process.pid, signal.SIGTERM)
            raise
    for end in [*ends]:  # what it started may keep them open
        _close(ends, end)
    code = fork_server.end(process)
    folder = None
    with told, suppress(EOFError):
        folder = told.recv() if told.poll() else None
    said = [line for relay in relays for line in relay.said]
    message = said[-1] if said else outcome.exit_reason(code)
    return Ended(code if code >= 0 else 128 - code, folder, message)


@contextmanager
def _interrupts_held() -> Iterator[list[int]]:
    """Only note interrupts, until there is somebody to pass them on to.

    To block them would not do: another thread of this process, as numpy has them, would get them.
    """
    held: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield held  # only the main thread is told of signals
        return
    signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)


def _ask(pid: int, number: int) -> None:
    """Ask a process to save and stop."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class _Ends:
    """The ends of pipes that go to another process."""

    def __init__(self, *descriptors: int) -> None:
        self.descriptors = descriptors

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ends._received, tuple(map(reduction.DupFd, self.descriptors))

    @classmethod
    def _received(cls, *sent: Any) -> "_Ends":
        return cls(*(one.detach() for one in sent))


def _listen(ends: dict[int, _Relay], sentinel: int) -> bool:
    """Pass on what is there, once there is something; whether the process has ended before."""
    ready = wait([*ends, sentinel])
    own = [end for end in ends if end in ready]
    for end in own:
        data = b""
        with suppress(OSError):  # a terminal whose other end is closed
            data = os.read(end, 2**16)
        ends[end].take(data) if data else _close(ends, end)
    return sentinel in ready and not own


def _close(ends: dict[int, _Relay], end: int) -> None:
    ends.pop(end).take(b"")
    os.close(end)


def _terminal() -> tuple[int, int]:
    """Open a terminal as wide as ours, for what draws progress; return its two ends."""
    ours, end = pty.openpty()
    tty.setraw(end)
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, _width() + 1, 0, 0))
    return ours, end


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(AttributeError, ValueError):  # none, a closed one, or one that only writes
        return stream.isatty()  # type: ignore[union-attr]
    return False


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns - 1


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _work(
    words: list[str],
    ends: _Ends,
    tells: Connection,
    cwd: str,
    path: list[str],
    environ: Mapping[str, str],
) -> None:
    """Run the command in its own process, which ends with it."""
    os.setsid()  # a signal to the whole group of the process that asked is not for it
    for number, descriptor in enumerate(ends.descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    sys.path.extend(entry for entry in path if entry not in sys.path)
    code = outcome.FAILED
    try:
        import_module(fork_server.PRELOAD)  # an interrupt may be lost while a library is imported
        command = import_module(COMMAND)
        fork_server.begin(GRACE)
        code = command.main(words)
    except KeyboardInterrupt as error:  # before the command answers signals
        code = outcome.INTERRUPTED
        outcome.report(error)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        with suppress(OSError):
            tells.send(lock.TAKEN[0] if lock.TAKEN else None)
        os._exit(code)
