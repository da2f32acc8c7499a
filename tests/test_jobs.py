"""A job's status is what became of it, and so is its exit code."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import commands
import pytest
import torch
from commands import wait_for
from runs import QUICK, config, job, resumed

from bptt_lab import runs
from bptt_lab.config.schema import Experiment
from bptt_lab.gradients import full
from bptt_lab.training import fork_server, metrics_log
from bptt_lab.training import job as jobs

ROWS = ("dataset.layout=rows", "trainer.log_every_n_steps=10")
LINEAR = (
    "model.nonlinearity=identity",
    "optimizer=sgd",
    "optimizer.lr=1e10",
    "checkpoint_seconds=0",
)
WILD = ("model.nonlinearity=identity", "model.gain=1e30")  # inf before the first step is done


def state(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_completed(tmp_path, capsys):
    settings = config(*QUICK, *ROWS)
    assert jobs.attempt(settings, tmp_path, job()) == 0
    assert state(tmp_path)["status"] == "completed"
    assert "test/accuracy" in capsys.readouterr().out
    summary = (tmp_path / "summary.json").stat()
    assert jobs.attempt(resumed(settings, tmp_path), tmp_path, job()) == 0
    assert "is completed already" in capsys.readouterr().out
    assert (tmp_path / "summary.json").stat() == summary


def test_a_folder_holds_one_run(tmp_path, capsys):
    settings = config(*QUICK, *ROWS)
    assert jobs.attempt(settings, tmp_path, job()) == 0
    assert jobs.attempt(settings, tmp_path, job()) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "holds a run already (completed); continue it with" in err
    assert state(tmp_path)["status"] == "completed"


def test_failed_by_its_own_error(tmp_path, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise FloatingPointError("broken on purpose")

    monkeypatch.setattr(full.Full, "assign", broken)
    assert jobs.attempt(config(*QUICK, *ROWS), tmp_path, job()) == 1
    assert state(tmp_path) == {
        "status": "failed", "reason": "FloatingPointError: broken on purpose", "raised": True,
    }  # fmt: skip
    assert "Traceback" in capsys.readouterr().err


def test_diverged_stops_before_the_parameters_do(tmp_path, capsys):
    settings = config(*QUICK, *ROWS, *WILD, "checkpoint_seconds=0")
    assert jobs.attempt(settings, tmp_path, job()) == 3
    reason = state(tmp_path)["reason"]
    assert state(tmp_path)["status"] == "diverged"
    assert reason in capsys.readouterr().err and "at step 1" in reason
    logged = {tag: v for line in runs.read_metrics(tmp_path) for tag, v in line.items()}
    assert logged["gradient_norm/nonfinite"] > 0 and not math.isfinite(
        logged["gradient_norm/total"]
    )
    assert json.loads((tmp_path / "summary.json").read_text())["diverged"] == reason


def test_a_diverged_run_keeps_its_last_finite_checkpoint(tmp_path):
    settings = config(*QUICK, *ROWS, *LINEAR)
    assert jobs.attempt(settings, tmp_path, job()) == 3
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] >= 1
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


def test_divergence_may_be_recorded_instead(tmp_path, capsys):
    settings = config(*QUICK, *ROWS, *WILD, "divergence=record", "checkpoint_seconds=0")
    assert jobs.attempt(settings, tmp_path, job()) == 0
    assert "at step 1" in json.loads((tmp_path / "summary.json").read_text())["diverged"]
    assert "diverged on the way: " in capsys.readouterr().out
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists()  # nothing finite to keep


LONG = ("trainer.max_epochs=100000", "checkpoint_seconds=0")


def work(settings: Experiment, folder: Path) -> None:
    commands.serve()  # for the processes of a run that has several
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(folder.parent / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    commands.default_signals()
    fork_server.unblock()
    raise SystemExit(jobs.attempt(settings, folder, job()))


def begin(settings: Experiment, folder: Path, until: str):
    process = fork_server.start(work, (settings, folder))
    wait_for((folder / until).exists)
    return process


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("SIGTERM", "cpu"),
        ("SIGINT", "ddp_cpu"),
        *(
            pytest.param(name, device, marks=pytest.mark.slow)
            for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM")
            for device in ("cpu", "ddp_cpu")
            if (name, device) not in (("SIGTERM", "cpu"), ("SIGINT", "ddp_cpu"))
        ),
    ],
)
def test_a_signal_saves_and_stops(name, device, tmp_path):
    folder = tmp_path / "run"
    settings = config(*QUICK, *ROWS, *LONG, f"device={device}")
    process = begin(settings, folder, until="checkpoints/last.ckpt")
    wait_for((folder / "metrics.jsonl").exists)
    os.kill(process.pid, signal.Signals[name])
    process.join()
    assert process.exitcode == 128 + signal.Signals[name]
    assert state(folder)["status"] == "interrupted"
    if device == "cpu":
        assert state(folder)["reason"] == f"interrupted by {name}"
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    lines = [*runs.read_metrics(folder)]
    assert checkpoint["global_step"] >= max(line["step"] for line in lines)
    assert "interrupted by SIG" in (tmp_path / "stderr").read_text()
    assert "Traceback" not in (tmp_path / "stderr").read_text()


def test_a_signal_before_torch_is_there(tmp_path):
    folder = tmp_path / "run"
    process = begin(config(*QUICK, *ROWS, *LONG), folder, until="status.json")
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 143 and state(folder)["status"] == "interrupted"


def test_a_full_disk_is_told(tmp_path, monkeypatch, capsys):
    def full_disk(self, metrics, step=None):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metrics_log.MetricsLog, "log_metrics", full_disk)
    assert jobs.attempt(config(*QUICK, *ROWS), tmp_path, job()) == 1
    assert "No space left on device" in state(tmp_path)["reason"]


def test_status_is_told_in_the_room_it_has(tmp_path, monkeypatch):
    """On a full disk no second file can be written; the first one's room is enough."""
    runs.write_status(tmp_path, "running", pid=1, host="a machine with a long name")

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_json", full_disk)
    runs.write_status(tmp_path, "failed", "x")
    assert runs.read_run(tmp_path).status == "failed"


def test_a_signal_that_was_ignored_stays_so():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        from bptt_lab.runs import signals

        with signals.caught():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
