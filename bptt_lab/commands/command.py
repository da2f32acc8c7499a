"""The frame of all commands: how each reads its arguments, reports errors, and ends.

A command is a function of its arguments, the process's own by default, that returns an exit code.
Where it fails or refuses, one line on stderr says why, as `name: message`. One that leaves more
than what it prints, as the files of a run, is `lasting`: it goes on whoever reads it. One that only
prints ends when its reader leaves, without a word and with 0.
"""

import argparse
import contextlib
import functools
import os
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TextIO, get_args, get_origin

from bptt_lab.core.messages import printable
from bptt_lab.core.validation import ConfigError, unmet
from bptt_lab.runs import files, outcome, streams
from bptt_lab.runs.streams import progress as progress

EXIT_CODES = """\
Exit codes: 0 done; 1 failed, or a result is not what it should be; 2 refused, and one line on
stderr says why; 3 the run diverged; 128 + n after signal n, so 130 after Ctrl-C."""
PICTURES = (".png", ".svg", ".pdf")
P = ParamSpec("P")


def named(name: str, *, lasting: bool = False) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's function, so that `run` calls it under this name."""

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def call(*args: P.args, **kwargs: P.kwargs) -> int:
            return run(name, lambda: main(*args, **kwargs), lasting=lasting)

        return call

    return decorate


def run(name: str, work: Callable[[], int], *, lasting: bool = False) -> int:
    """Call a command's function, and turn what ends it early into one line and an exit code.

    An error that no user can mend is raised, for its traceback.
    """
    outcome.program = name
    streams.open_closed()
    code = outcome.COMPLETED
    try:
        with streams.lasting() if lasting else contextlib.nullcontext():
            code = _run(name, work)
    except BrokenPipeError:
        if not any(map(_is_unread, (sys.stdout, sys.stderr))):
            raise  # some other pipe broke
    for stream in (sys.stdout, sys.stderr):  # at the interpreter's end nobody could handle it
        try:
            stream.flush()
        except OSError as error:
            _silence(stream)
            if not isinstance(error, BrokenPipeError):  # a full disk, say
                code = code or say(name, _explain(error), outcome.FAILED)
    return code


def _run(name: str, work: Callable[[], int]) -> int:
    try:
        return work()
    except SystemExit as stop:  # of --help
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except ConfigError as error:
        return say(name, str(error), outcome.REFUSED)
    except outcome.CheckpointError as error:
        return say(name, str(error), outcome.FAILED)
    except BrokenPipeError:
        raise
    except OSError as error:
        return say(name, _explain(error), outcome.FAILED)
    except outcome.Interrupted as error:
        return say(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        return say(name, "interrupted", outcome.INTERRUPTED)


def say(name: str, message: str, code: int) -> int:
    """Print on one line of stderr why a command ends, and return the exit code."""
    with contextlib.suppress(OSError):  # stderr may be closed, too
        progress("")
        print(f"{name}: {printable(message)}", file=sys.stderr, flush=True)
    return code


def find_plugins_here() -> None:
    """Let a configuration name classes from the current folder, as `python -m` does.

    The folder comes last, so that no file in it hides an installed package.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose help ends in the exit codes."""

    def __init__(self, name: str, description: str, usage: str | None = None) -> None:
        super().__init__(name, usage, description, EXIT_CODES, allow_abbrev=False)

    def option(
        self, usage: str, help: str, kind: Callable[[str], Any] = str, default: Any = None
    ) -> None:
        """Add an option, given as its usage writes it.

        Args:
            usage: "--rounds R", "--threads T ..." for several values, "--memory" for a flag.
            help: what it does, and what holds without it unless `default` says it.
            kind: of each value.
            default: without the option.
        """
        name, *value = usage.split()
        if not value:
            self.add_argument(name, action="store_true", help=help)
            return
        shown = "" if default is None else "; default: %(default)s"
        nargs = "+" if value[1:] else None
        self.add_argument(
            name, type=kind, metavar=value[0], nargs=nargs, default=default, help=help + shown
        )

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments, by a ConfigError."""
        message = re.sub(r"^argument (\S+): (?=.*: must )", r"\1=", message, flags=re.DOTALL)
        message = message.removeprefix("argument ")
        raise ConfigError(f"{message}; {self.prog} --help lists what there is")


def within(hint: Any) -> Callable[[str], Any]:
    """Make the type of an argument that is of a type hint: an int, float or Literal with limits."""
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint

    def read(text: str) -> Any:
        value: Any = text
        with contextlib.suppress(ValueError):
            if kind is float or (kind is int and re.fullmatch("-?[0-9]{1,18}", text)):
                value = kind(text)
        if problem := unmet(value, hint, {}):
            raise argparse.ArgumentTypeError(f"{text}: {problem}")
        return value

    return read


def picture(text: str) -> Path:
    """Read an argument that names a picture to write."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise must(text, f"end in {', '.join(PICTURES)}")
    return _in_a_folder(path)


def output(text: str) -> Path:
    """Read an argument that names a file to write, in the place of what has the name so far."""
    path = _in_a_folder(Path(text))
    if problem := files.no_file(path):
        raise must(text, f"name a file, but what is there {problem}; give another name")
    return path


def _in_a_folder(path: Path) -> Path:
    if not path.parent.is_dir():
        where = f"there is no folder {path.parent}; make it first"
        raise must(str(path), f"be in a folder, but {where}")
    return path


def must(text: str, what: str) -> argparse.ArgumentTypeError:
    """Return the error of an argument's type: `text` must `what`."""
    return argparse.ArgumentTypeError(f"{text}: must {what}")


def _explain(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{error.filename}: cannot be used ({error.strerror}); correct that, or give another"


def _is_unread(stream: TextIO) -> bool:
    """Whether the stream is a pipe whose reader is gone."""
    poll = select.poll()
    with contextlib.suppress(OSError):  # a stream in memory has no descriptor
        poll.register(stream.fileno(), 0)  # of 0 events: errors alone are reported
    return bool(poll.poll(0))


def _silence(stream: TextIO) -> None:
    """Send to nowhere what the stream still holds: the interpreter flushes it again at its end."""
    with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
