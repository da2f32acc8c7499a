"""A student's file in a process of its own, which gets so long and so much memory.

It is no sandbox: the process may read and write what the user may.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from bptt_lab.commands.homework import worker
from bptt_lab.commands.homework.exercise import MISSING, Answer, Exercise, Verdict, judge
from bptt_lab.training import fork_server

MEMORY = 1024  # MB
LARGEST = 2**24  # bytes of a message
TO_START = 120.0  # seconds for the process to exist, which is no student's fault


def prepare() -> None:
    """Start the server that the processes are forked from, with torch loaded and no more."""
    fork_server.load(worker.__name__)


def grade(path: Path, exercise: Exercise, seconds: int) -> Verdict:
    """Run the file of an exercise, and judge its answers."""
    if not path.exists():
        return Verdict(exercise, problem=MISSING)
    if path.is_dir():
        return Verdict(exercise, problem="is no file")
    calls = exercise.calls()
    answers: dict[str, Answer] = {}
    reader, writer = Pipe(duplex=False)
    arguments = (writer, path.resolve(), calls, MEMORY * 2**20, seconds)
    process = fork_server.start(worker.work, arguments)
    writer.close()
    try:
        if not reader.poll(TO_START) or reader.recv_bytes() != worker.READY.encode():
            raise OSError(f"no process for {path} could be started")
        messages = _messages(reader, time.monotonic() + seconds)
        problem: Any = next(messages, None)
        if problem is None:
            problem = f"the file {_why(process, seconds, 'end loading')}"
        if problem != "":
            return Verdict(exercise, problem=str(problem))
        with contextlib.suppress(ValueError, TypeError):  # or it is no answer
            for name, values, said, not_done, changed in messages:
                answers[str(name)] = Answer(values, str(said), bool(not_done), changed)
        ended = "" if len(answers) == len(calls) else _why(process, seconds, "return")
    finally:
        _end(process)
        reader.close()
    for name in calls:  # the first of them is where it ended
        answers.setdefault(name, Answer(problem=ended))
    return judge(exercise, answers)


def _messages(reader: Connection, end: float) -> Iterator[Any]:
    """Yield messages until the pipe is closed, the time is up, or what comes is no message."""
    with contextlib.suppress(EOFError, OSError, ValueError):
        while reader.poll(max(0.0, end - time.monotonic())):
            yield json.loads(reader.recv_bytes(LARGEST))


def _why(process: ForkServerProcess, seconds: int, what: str) -> str:
    process.join(0.2)
    if process.exitcode in (None, -signal.SIGXCPU):
        return f"does not {what}: the time of {seconds} s is over; does every loop end?"
    assert process.exitcode is not None
    if process.exitcode < 0:
        name = signal.Signals(-process.exitcode).name
        return f"ends the process by {name}; does it need more than {MEMORY} MB?"
    return f"ends the process with exit code {process.exitcode}: leave out exit()"


def _end(process: ForkServerProcess) -> None:
    """End the process and whatever it has started in its group."""
    assert process.pid is not None
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(process.pid, signal.SIGKILL)
    process.join()
