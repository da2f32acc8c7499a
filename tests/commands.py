"""Commands in processes of their own, as their users start them.

A `Forked` one starts in milliseconds. It comes from one server a session, which has torch and
Lightning loaded, and has a server of its own for a sweep's jobs. A `Fresh` one has imported
nothing: it is for the few tests of how a command starts.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import NoReturn, TypeVar

from bptt_lab.runs import signals
from bptt_lab.training import fork_server

T = TypeVar("T")
TESTS = Path(__file__).parent
MARK = "BPTT_TEST_MARK"
PR_SET_NAME = 15


class Forked:
    """A command that the session's server forks, with the interface of subprocess.Popen.

    Args:
        main: module and function of the command.
        arguments: its command line.
        cwd: where it runs.
        environment: added to that of the tests.
        report: whether a sweep's end writes its report.
        unread: whether the reader of its stdout and stderr has gone.
    """

    def __init__(
        self,
        main: str,
        arguments: tuple[str, ...],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        *,
        report: bool = False,
        unread: bool = False,
    ) -> None:
        self.args = arguments
        self.mark = uuid.uuid4().hex[:15]
        self._files = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115
        whole = {**os.environ, **(environment or {}), MARK: self.mark}
        names = [file.name for file in self._files]
        self._process = fork_server.start(
            run_command, (main, arguments, str(cwd), whole, names, self.mark, report, unread)
        )
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, "it did not end in time"
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        texts = []
        for file in self._files:
            with file:
                texts.append(file.read())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command itself, as `kill -9` does."""
        self.send_signal(signal.SIGKILL)
        self.communicate()

    def processes(self) -> list[int]:
        """The processes that are left of it, itself included."""
        return marked(self.mark)


class Fresh(subprocess.Popen[str]):
    """A command that a shell would start; the arguments are those of `Forked`."""

    def __init__(
        self,
        main: str,
        arguments: tuple[str, ...],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        module, _, function = main.partition(":")
        self.mark = uuid.uuid4().hex[:15]
        super().__init__(
            [
                sys.executable,
                "-c",
                f"import sys, {module} as m; sys.exit(m.{function}())",
                *arguments,
            ],
            cwd=cwd,
            env={**os.environ, **(environment or {}), MARK: self.mark, fork_server.SAFE_PATH: "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=default_signals,
        )

    def processes(self) -> list[int]:
        """The processes that are left of it, itself included."""
        return marked(self.mark)


def marked(mark: str) -> list[int]:
    """The processes whose name or environment holds a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            started = mark.encode() in (folder / "environ").read_bytes()
        except OSError:  # gone, or somebody else's
            continue
        if (started or name.endswith(f"({mark}")) and rest.split()[0] != "Z":
            found.append(int(folder.name))
    return found


def wait_for(what: Callable[[], T], seconds: float = 600) -> T:
    """Wait until something is true, and return it; the limit is for what never comes."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def run_command(
    main: str,
    arguments: tuple[str, ...],
    cwd: str,
    environment: dict[str, str],
    files: list[str],
    mark: str,
    report: bool,
    unread: bool,
) -> NoReturn:
    """Become the command, in a process that was forked for it."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, name in enumerate(files, 1):
        os.dup2(os.open(name, os.O_WRONLY), number)
    if unread:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
    own = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [*filter(None, own), *(entry for entry in sys.path if not ours(entry))]
    # The name goes to every process that is forked from this one.
    ctypes.CDLL(None).prctl(PR_SET_NAME, mark.encode(), 0, 0, 0)
    serve()
    default_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fork_server.unblock()
    if not report:
        importlib.import_module("bptt_lab.commands.report").write_report = lambda folder: folder
    module, _, function = main.partition(":")
    sys.argv = [function, *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())


def suite() -> None:
    """Run pytest, as `python -m pytest` does."""
    sys.path.insert(0, os.getcwd())
    sys.exit(importlib.import_module("pytest").main(sys.argv[1:]))


def ours(entry: str) -> bool:
    """Whether only the tests look for modules there."""
    return Path(entry).resolve().is_relative_to(TESTS)


def default_signals() -> None:
    """Take back what a background shell ignores for its processes."""
    for number in signals.ASKING:
        signal.signal(number, signal.SIG_DFL)


def serve() -> None:
    """Give this process a server of its own, forked from it rather than started."""
    server = forkserver._forkserver
    with socket.socket(socket.AF_UNIX) as listener:
        address = connection.arbitrary_address("AF_UNIX")
        listener.bind(address)
        listener.listen()
        alive_r, alive_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(alive_w)
            os.environ[fork_server.SAFE_PATH] = "1"
            signal.pthread_sigmask(signal.SIG_BLOCK, signals.ASKING)
            try:
                forkserver.main(os.dup(listener.fileno()), alive_r, [])
            finally:
                os._exit(0)
    os.close(alive_r)
    server._forkserver_address, server._forkserver_alive_fd = address, alive_w
    server._forkserver_pid = pid
