"""What holds for every command that pyproject.toml installs."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from bptt_lab.commands.command import EXIT_CODES

ROOT = Path(__file__).parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
COMMANDS = pytest.mark.parametrize("name", SCRIPTS)
RED = "\x1b[31mred\nline"  # a terminal would obey it


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def call(name, *argv):
    """Call a command in this process, as its console script does."""
    module, _, function = SCRIPTS[name].partition(":")
    return getattr(importlib.import_module(module), function)(argv)


@COMMANDS
def test_help(name, capsys):
    assert call(name, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"usage: {name} ")
    assert " ".join(out.split()).endswith(" ".join(EXIT_CODES.split()))


@COMMANDS
@pytest.mark.parametrize("argument", [RED, f"--{RED}", f"--{RED}={RED}"])
def test_a_wrong_argument_is_one_line_that_a_terminal_only_shows(name, argument, capsys, tmp_path):
    assert call(name, argument) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{name}: ") and err.count("\n") == 1
    assert err.removesuffix("\n").isprintable()
    assert argument != RED or r"\x1b[31mred line" in err
    assert not list(tmp_path.iterdir())


@COMMANDS
def test_an_unknown_option_is_named(name, capsys):
    assert call(name, ".", "--nope") == 2
    assert "--nope" in capsys.readouterr().err


@COMMANDS
def test_a_folder_that_was_deleted(name, capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert call(name, "nowhere/x") in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1


@COMMANDS
def test_nobody_reads_on(name, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, redirect_stdout(stream):
        assert call(name, "--help") == 0
    assert capsys.readouterr() == ("", "")


@COMMANDS
def test_ctrl_c(name, capsys):
    class Interrupted(io.StringIO):
        def write(self, text):
            raise KeyboardInterrupt

    with redirect_stdout(Interrupted()):
        assert call(name, "--help") == 130
    assert capsys.readouterr() == ("", f"{name}: interrupted\n")


WAITS = """
import signal, sys
from bptt_lab.commands.horizon import cli
def read(folder):
    print("begun", flush=True)
    signal.pause()
cli.results.read = read
sys.exit(cli.main(["."]))
"""


def test_ctrl_c_in_a_real_process():
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err) == (130, "", "bptt-horizon: interrupted\n")


def test_neither_help_nor_a_refusal_waits_for_torch():
    script = (
        "import importlib, sys\n"
        f"for entry in {list(SCRIPTS.values())}:\n"
        "    main = importlib.import_module(entry.partition(':')[0]).main\n"
        "    assert main(['--help']) == 0 and main(['no/where', '--nope']) == 2\n"
        "    heavy = {'torch', 'lightning', 'numpy', 'matplotlib', 'sklearn', 'tensorboard'}\n"
        "    assert not heavy & set(sys.modules), (entry, heavy & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["train", "benchmark"])
def test_a_script_of_a_checkout_is_its_command(name):
    script = [sys.executable, ROOT / "scripts" / f"{name}.py", "--nope"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bptt-") and done.stderr.count("\n") == 1
