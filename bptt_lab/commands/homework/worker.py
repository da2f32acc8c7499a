"""The process that runs a student's file: it loads the file, makes the calls, sends the answers.

Answers travel as JSON, so that nothing of the student's is unpickled anywhere else. This module is
loaded once, by the server that each such process is forked from.
"""

import contextlib
import inspect
import json
import os
import resource
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bptt_lab.commands.homework.exercise import Answer, Call
from bptt_lab.training import fork_server

READY = "ready"
LARGEST = 10**5  # numbers in an answer
LONGEST = 200  # characters of an error's message
FILE_SIZE = 2**20  # bytes that a student's code may write into a file


def work(
    pipe: Connection, path: Path, calls: Mapping[str, Call], memory: int, seconds: int
) -> None:
    """Load a file and send its problem or "", make the calls, send each answer at once.

    `memory` is in bytes.
    """
    os.setsid()
    fork_server.begin(0.0)
    pipe.send_bytes(READY.encode())
    _limit(memory, seconds)
    torch.set_num_threads(1)
    module, problem = load(path)
    pipe.send_bytes(json.dumps(problem).encode())
    for name, call in () if problem else calls.items():
        answer = ask(module, call)
        message = [name, answer.values, answer.problem, answer.not_done, answer.changed]
        pipe.send_bytes(json.dumps(message).encode())
    pipe.close()
    os._exit(0)  # whatever threads the student's code has started


def _limit(memory: int, seconds: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    size = 0
    with contextlib.suppress(OSError):
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: FILE_SIZE,
        resource.RLIMIT_CPU: seconds + 2,
        resource.RLIMIT_AS: size + memory,
    }
    for limit, value in limits.items():
        with contextlib.suppress(OSError, ValueError):  # a lower limit holds already
            resource.setrlimit(limit, (value, value))


def load(path: Path) -> tuple[types.ModuleType, str]:
    """Run a student's file as a module; with the problem in words, where that fails."""
    module = types.ModuleType("exercise")
    module.__file__ = str(path)
    sys.modules["exercise"] = module
    sys.path.insert(0, str(path.parent))
    try:
        os.chdir(path.parent)
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except BaseException as error:
        return module, f"the file {_say(error, path)}"
    return module, ""


def ask(module: types.ModuleType, call: Call) -> Answer:
    """Make one call."""
    function = getattr(module, call.function, None)
    if function is None:
        return Answer(problem=f"the file has no function {call.function}")
    arguments = {name: _tensor(value) for name, value in call.arguments.items()}
    try:
        value = _called(function, arguments)
        values = _outputs(value, call)
    except _WrongType as error:
        return Answer(problem=str(error))
    except BaseException as error:
        if _is_hole(error):
            return Answer(problem="is not done yet", not_done=True)
        return Answer(problem=_say(error, Path(str(module.__file__))))
    changed = [name for name, value in call.arguments.items() if _changed(value, arguments[name])]
    return Answer(values, changed=changed)


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call by the arguments' names, or in their order where the student has other names."""
    try:
        inspect.signature(function).bind(**arguments)
    except (TypeError, ValueError):
        return function(*arguments.values())
    return function(**arguments)


def _is_hole(error: BaseException) -> bool:
    """Whether it is the hole's own error, and not that of an operation that torch lacks."""
    if not isinstance(error, NotImplementedError):
        return False
    *_, last = traceback.extract_tb(error.__traceback__)
    return not str(error) or "NotImplementedError" in (last.line or "")


def _tensor(value: Any) -> Any:
    return value if isinstance(value, int) else torch.tensor(value, dtype=torch.float64)


def _changed(before: Any, now: Any) -> bool:
    if isinstance(before, int):
        return False
    array = now.detach().numpy()
    return array.shape != before.shape or not np.array_equal(array, before, equal_nan=True)


class _WrongType(Exception):
    """What a function returns is nothing that can be read; the message says what."""


def _outputs(value: Any, call: Call) -> list[Any]:
    if value is None:
        raise _WrongType("returns None: is there a return?")
    if len(call.shapes) == 1:
        return [_plain(value)]
    if not isinstance(value, tuple | list | np.ndarray | torch.Tensor) or not getattr(
        value, "ndim", 1
    ):
        names = ", ".join(call.shapes)
        raise _WrongType(f"returns a {type(value).__name__}, must return {names}")
    if len(value) != len(call.shapes):
        names = ", ".join(call.shapes)
        raise _WrongType(f"returns {len(value)} things, must return {len(call.shapes)}: {names}")
    return [_plain(v) for v in value]


def _plain(value: Any) -> Any:
    """Turn a tensor, an array or a nested list into nested lists of floats."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        size = value.numel() if isinstance(value, torch.Tensor) else value.size
        if size > LARGEST:
            raise _WrongType(f"returns {size} numbers, which is too many")
        if value.is_complex() if isinstance(value, torch.Tensor) else np.iscomplexobj(value):
            raise _WrongType("returns complex numbers")
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().to(torch.float64).numpy()
        return np.asarray(value, dtype=np.float64).tolist()
    if isinstance(value, list | tuple):
        if len(value) > LARGEST:
            raise _WrongType(f"returns a list of {len(value)} entries, which is too many")
        return [_plain(v) for v in value]
    if isinstance(value, int | float):
        return float(value)
    kind = type(value).__name__
    raise _WrongType(f"returns a {kind} where a tensor, array or list of numbers is asked")


def _say(error: BaseException, path: Path) -> str:
    """Say what was raised, and where in the student's file."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 0
    where = f" in line {line}" if line else ""
    if isinstance(error, SystemExit):
        return f"ends the program{where}: leave out exit()"
    with contextlib.suppress(Exception):
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        text = " ".join(text.split())
        text = f": {text[:LONGEST]}" if text else ""
        return f"raises {type(error).__name__}{where}{text}"
    return f"raises {type(error).__name__}{where}"
