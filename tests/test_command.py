"""The frame of the commands, on a command made for the purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Literal

import pytest

from bptt_lab.commands import command
from bptt_lab.core.validation import ConfigError, Ge, Le
from bptt_lab.runs import outcome
from bptt_lab.runs.outcome import CheckpointError, Interrupted


def raiser(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("k=0: must be at least 1"), 2, "k=0: must be at least 1"),
        (CheckpointError("last.ckpt: is no checkpoint"), 1, "last.ckpt: is no checkpoint"),
        (Interrupted(signal.SIGTERM), 143, "interrupted by SIGTERM"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "a.png"), 1,
         "a.png: cannot be used (No space left on device); correct that, or give another"),
        (OSError("no such device"), 1, "no such device"),
        (ConfigError("a=\x1b[31m\n\tb: is \x07red"), 2, r"a=\x1b[31m b: is \x07red"),
        (FileNotFoundError(2, "No", "\x1b[2J\n"), 1,
         r"\x1b[2J : cannot be used (No); correct that, or give another"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_an_exit_code(error, code, line, capsys):
    assert command.run("bptt-x", raiser(error)) == code
    assert capsys.readouterr() == ("", f"bptt-x: {line}\n")


def test_a_line_about_a_job_begins_with_the_command_s_name(capsys):
    command.run("bptt-x", lambda: outcome.report(ConfigError("k=0: must be at least 1")) or 2)
    assert capsys.readouterr().err == "bptt-x: k=0: must be at least 1\n"


def test_a_mistake_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run("bptt-x", lambda: 1 // 0)


@pytest.mark.parametrize(("raised", "code"), [(None, 0), (0, 0), (3, 3), ("a text", 1)])
def test_an_exit_is_an_exit_code(raised, code):
    assert command.run("bptt-x", raiser(SystemExit(raised))) == code


@contextmanager
def unread():
    """Replace stdout by a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, redirect_stdout(stream):
        yield
        stream.flush()  # as the interpreter does at its end, and may now


@pytest.mark.parametrize(
    ("flush", "code"),
    [(False, 1), (True, 0)],  # where work is cut short, what it would have returned is unknown
)
def test_nobody_reads_on(flush, code, capsys):
    def work():
        print("a table", flush=flush)
        return 1

    with unread():
        assert command.run("bptt-x", work) == code
    assert capsys.readouterr() == ("", "")


def test_another_broken_pipe_is_a_mistake_of_the_program():
    with pytest.raises(BrokenPipeError):
        command.run("bptt-x", raiser(BrokenPipeError()))


SCRIPT = """
import sys
from bptt_lab.commands import command
def work():
    print("line\\n" * {lines}, flush={flush})
    command.say("bptt-x", "one word", 0)
    return {returned}
sys.exit(command.run("bptt-x", work, lasting={lasting}))
"""


FULL = "bptt-x: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("redirect", "lines", "flush", "returned", "code", "out", "err"),
    [
        ("| head -1", 1_000_000, True, 3, 0, "line\n", ""),
        ("2>&1 | true", 1, False, 3, 3, "", ""),
        (">&-", 1, False, 3, 3, "", "bptt-x: one word\n"),
        (">&- 2>&-", 1, False, 3, 3, "", ""),
        ("> /dev/full", 1, True, 0, 1, "", FULL),
        ("> /dev/full", 1, False, 0, 1, "", f"bptt-x: one word\n{FULL}"),
        ("> /dev/full", 1, False, 3, 3, "", "bptt-x: one word\n"),
        ("> /dev/full 2>&1", 1, False, 3, 3, "", ""),
    ],
)  # fmt: skip
def test_streams_of_a_real_process(redirect, lines, flush, returned, code, out, err):
    script = SCRIPT.format(lines=lines, flush=flush, returned=returned, lasting=False)
    if "true" in redirect:  # wait until the reader has gone
        script = f"import time; time.sleep(0.5)\n{script}"
    assert shell(script, redirect) == (code, out, err)


@pytest.mark.parametrize(
    ("redirect", "out", "err"),
    [
        ("| head -1", "line\n", "bptt-x: one word\n"),
        ("> /dev/full", "", "bptt-x: one word\n"),
        ("> /dev/full 2>&1", "", ""),
        (">&- 2>&-", "", ""),
    ],
)
def test_a_lasting_command_returns_its_code_whoever_reads_it(redirect, out, err):
    script = SCRIPT.format(lines=1_000_000, flush=True, returned=3, lasting=True)
    assert shell(script, redirect) == (3, out, err)


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path):
    file = tmp_path / "metrics"
    script = SCRIPT.format(lines=1, flush=True, returned=0, lasting=True).replace(
        "    command.say",
        f"    file = open({str(file)!r}, 'w'); os.system('echo told')\n    command.say",
    )
    assert shell(f"import os{script}", ">&- 2>&-") == (0, "", "")
    assert file.read_text() == ""


def shell(script, redirect):
    """Exit code, stdout and stderr of a script under a shell's redirection."""
    done = subprocess.run(
        ["bash", "-c", f'"$1" -c "$2" {redirect}; exit "${{PIPESTATUS[0]}}"', "", sys.executable,
         script],
        capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def parsed(*argv):
    """What a parser makes of some arguments, or the line it refuses them with."""
    parser = command.Parser("bptt-x", "Do nothing.")
    parser.add_argument("--threads", type=command.within(Annotated[int, Ge(1)]))
    parser.add_argument("--port", type=command.within(Annotated[int, Ge(1), Le(65535)]))
    parser.add_argument("--loss", type=command.within(float))
    parser.add_argument("--device", type=command.within(Literal["cpu", "cuda"]))
    parser.add_argument("--figure", type=command.picture)
    try:
        return next(value for value in vars(parser.parse_args(argv)).values() if value is not None)
    except ConfigError as error:
        return str(error).removesuffix("; bptt-x --help lists what there is")


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        ("--threads 12", 12),
        ("--threads 0", "--threads=0: must be at least 1"),
        ("--threads x", "--threads=x: must be an integer"),
        ("--threads ²", "--threads=²: must be an integer"),
        ("--port 65535", 65535),
        ("--port 65536", "--port=65536: must be at most 65535"),
        ("--port -1", "--port=-1: must be at least 1"),
        ("--loss 0.5", 0.5),
        ("--loss nan", "--loss=nan: must be a finite number"),
        ("--loss x", "--loss=x: must be a number"),
        ("--device cuda", "cuda"),
        ("--device tpu", "--device=tpu: must be one of cpu, cuda; did you mean cpu?"),
        ("--figure x.gif", "--figure=x.gif: must end in .png, .svg, .pdf"),
        ("--figure no/x.png", "--figure=no/x.png: must be in a folder, but there is no folder no; "
         "make it first"),
        ("--threads", "--threads: expected one argument"),
        ("--thread 1", "unrecognized arguments: --thread 1"),
        ("more", "unrecognized arguments: more"),
    ],
)  # fmt: skip
def test_arguments(argv, value):
    assert parsed(*argv.split()) == value


def test_a_value_may_hold_anything():
    assert parsed("--device", "\x1b[31m\n x") == "--device=\x1b[31m\n x: must be one of cpu, cuda"
