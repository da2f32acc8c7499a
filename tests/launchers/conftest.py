"""Sweeps whose driver is the tests' own process, and whose clock the tests set."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from bptt_lab.commands.train import cli
from bptt_lab.training.launchers import process
from launchers import sweeps


@pytest.fixture
def run_here(tmp_path, monkeypatch, capfd):
    """Run bptt-train in this process; its jobs have processes of their own."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bptt-train", *arguments])
        code = cli.main()
        return (code, *capfd.readouterr())

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(sweeps.HERE))
    return run


@pytest.fixture
def hours_pass_once(monkeypatch):
    """Let the launcher's clock jump by hours once something has happened."""

    def jump(happened: Callable[[], bool]) -> None:
        passed = []

        def monotonic() -> float:
            if not passed and happened():
                passed.append(True)
            return time.monotonic() + 100_000 * len(passed)

        clock = SimpleNamespace(monotonic=monotonic, sleep=time.sleep)
        monkeypatch.setattr(process, "time", clock)

    return jump


@pytest.fixture
def hours_pass_at_each(monkeypatch):
    """Let the launcher's clock jump by hours a few looks after each time that something happened.

    Until then it has seen that nothing else is at work.
    """

    def jump(times: Callable[[], int]) -> None:
        looks, passed = [], []

        def monotonic() -> float:
            if times() > len(passed):
                looks.append(True)
            if len(looks) > 5:
                passed.append(True)
                looks.clear()
            return time.monotonic() + 100_000 * len(passed)

        clock = SimpleNamespace(monotonic=monotonic, sleep=time.sleep)
        monkeypatch.setattr(process, "time", clock)

    return jump
