"""A print is no part of a run: whoever reads stdout and stderr, the run goes on to its end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import sys
import threading
from contextlib import contextmanager

import pytest
from commands import Forked
from runs import QUICK

from bptt_lab.commands.train import cli
from bptt_lab.runs import streams

READERS = ("gone", "full disk", "stuck pipe", "stuck terminal")
BARRED = (*(line for line in QUICK if "progress_bar" not in line), "trainer.log_every_n_steps=1")


@contextmanager
def reader(kind):
    """Give a descriptor for output that nobody takes."""
    if kind == "full disk":
        kept, output = [], os.open("/dev/full", os.O_WRONLY)
    elif kind == "stuck terminal":
        *kept, output = pty.openpty()
    else:
        *kept, output = os.pipe()
        fill(output)
    if kind == "gone":
        os.close(kept.pop())
    yield output
    for descriptor in (*kept, output):
        os.close(descriptor)


def fill(pipe):
    os.set_blocking(pipe, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    os.set_blocking(pipe, True)


@contextmanager
def written_to(descriptor, monkeypatch):
    """Send stdout and stderr there, as a shell does."""
    out, err = (os.fdopen(os.dup(descriptor), "w") for _ in range(2))
    with monkeypatch.context() as patch, out, err:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        yield  # closing flushes, as the interpreter does at its end, and may now


@pytest.mark.parametrize("kind", READERS)
def test_no_print_fails_or_waits(kind, monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE", 0)
    with reader(kind) as output, written_to(output, monkeypatch), streams.lasting():
        assert sys.stdout.isatty() == (kind == "stuck terminal")
        for line in range(20_000):
            print("a line of a run", line, flush=line % 2 == 0)
        print("a warning", file=sys.stderr)


def test_a_slow_reader_gets_all_of_it(monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE", 600)
    source, output = os.pipe()
    fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 4096)
    text = "".join(f"line {number}\n" for number in range(10_000))
    taken = []

    def read():
        with os.fdopen(source) as pipe:
            taken.extend(pipe)

    slow = threading.Thread(target=read)
    with written_to(output, monkeypatch):
        os.close(output)
        with streams.lasting():
            print(text, end="")
            slow.start()
    slow.join()
    assert "".join(taken) == text


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def statuses(folder):
    return [
        json.loads(path.read_text())["status"] for path in sorted(folder.glob("**/status.json"))
    ]


@pytest.mark.parametrize("kind", ["gone", "stuck pipe"])
def test_a_run_completes(kind, here, monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE", 0)
    with reader(kind) as output, written_to(output, monkeypatch):
        assert cli.main(["dataset.layout=rows", *BARRED]) == 0
    assert statuses(here) == ["completed"]
    (summary,) = here.glob("outputs/*/summary.json")
    assert "test/accuracy" in json.loads(summary.read_text())["metrics"]


def test_a_run_completes_where_the_streams_are_closed(here, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["dataset.layout=rows", *BARRED]) == 0
    assert statuses(here) == ["completed"]
    sys.stdout.close()
    sys.stderr.close()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-m", "seed=0,1", "hydra.launcher.n_jobs=1"), marks=pytest.mark.slow),
        ("-m", "seed=0,1", "hydra/launcher=basic"),
        pytest.param(("device=ddp_cpu",), marks=pytest.mark.slow),
        pytest.param(("-m", "seed=0,1", "hydra/launcher=ray"), marks=pytest.mark.slow),
        pytest.param(
            ("-m", "seed=0,1", "hydra/launcher=slurm", "hydra.launcher.cluster=local"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_nobody_reads_what_processes_print(arguments, tmp_path):
    main = "bptt_lab.commands.train.cli:main"
    command = Forked(main, (*BARRED, "dataset.layout=rows", *arguments), tmp_path, unread=True)
    command.communicate()
    assert command.wait() == 0
    assert statuses(tmp_path) == ["completed"] * (2 if "-m" in arguments else 1)


@pytest.mark.parametrize("asked", [["--hydra-help"], ["--cfg", "job"], ["dry_run=true"]])
@pytest.mark.parametrize(("kind", "code"), [("gone", 0), ("full disk", 1)])
def test_an_answer_that_cannot_be_printed_is_no_mistake_of_a_setting(
    asked, kind, code, monkeypatch, capfd
):
    with reader(kind) as output, os.fdopen(os.dup(output), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert cli.main(asked) == code
    said = capfd.readouterr().err
    assert said == ("bptt-train: [Errno 28] No space left on device\n" if code else "")
