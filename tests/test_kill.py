"""Kill -9 at any moment: whoever continues ends with the bits of a run never touched."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from runs import QUICK, config, job, resumed
from test_damage import DAMAGES, SETTINGS, begun, kept  # noqa: F401  # a fixture
from test_resume import TEXT, outcome

from bptt_lab import runs
from bptt_lab.config.schema import Experiment
from bptt_lab.training import fork_server
from bptt_lab.training import job as jobs
from bptt_lab.training.callbacks import checkpoints

DROPOUT = ("model.num_layers=2", "model.dropout=0.3", "model.hidden_size=12")
TASKS = {
    "digits": ("dataset.layout=rows", "trainer.max_epochs=24"),
    "text": ("dataset=text", "dataset.batch_size=4", "dataset.chunk_length=4",
             "trainer.max_epochs=9"),
}  # fmt: skip
KILLS = 10  # of each strategy and task


def settings(task: str, strategy: str, folder: Path) -> Experiment:
    overrides = [*QUICK, *DROPOUT, *TASKS[task], f"gradient={strategy}", "checkpoint_seconds=0.03"]
    if task == "text":
        book = folder / "book.txt"
        book.write_text(TEXT)
        overrides.append(f"dataset.path={book}")
    return config(*{o.partition("=")[0]: o for o in overrides}.values())


def work(config_: Experiment, folder: Path, forget: bool) -> None:
    """One attempt, in a process that may be killed."""
    if forget:
        checkpoints.restore_random = lambda saved: None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(jobs.attempt(config_, folder, job()))


def attempt(config_: Experiment, folder: Path, *, forget: bool = False):
    return fork_server.start(work, (config_, folder, forget))


def kill_at(process, folder: Path, dice: random.Random, aim: bool) -> bool:
    """Kill a process within a second, or the moment it begins to save; tell if it was in time."""
    part = folder / "checkpoints" / ".last.ckpt.part"
    end = time.monotonic() + dice.uniform(0.2, 1.0)
    while time.monotonic() < end or aim:
        if process.exitcode is not None:
            return False
        if aim and part.exists():
            time.sleep(dice.choice([0, 0, 0.0003, 0.001, 0.003]))
            break
        if not aim:
            time.sleep(0.001)
    process.kill()
    process.join()
    return process.exitcode < 0


def end_in_spite_of(kills: int, config_: Experiment, folder: Path, seed: int, **how) -> int:
    """Kill attempt after attempt, then let one end; return how many were killed."""
    dice, killed = random.Random(seed), 0
    for number in range(kills):
        process = attempt(resumed(config_, folder), folder, **how)
        killed += kill_at(process, folder, dice, aim=number % 2 == 1)
        process.join()
    process = attempt(resumed(config_, folder), folder, **how)
    process.join()
    assert process.exitcode == 0
    return killed


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "truncated", "autograd"])
@pytest.mark.parametrize("task", TASKS)
def test_killed_runs_end_as_if_nothing_had_happened(task, strategy, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/dev/shm")  # a file system that nothing can be renamed from
    config_ = settings(task, strategy, tmp_path)
    process = attempt(config_, tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    killed = end_in_spite_of(KILLS, config_, tmp_path / "run", seed=len(strategy))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert killed > KILLS // 2
    assert runs.read_run(tmp_path / "run").status == "completed"


ADDING = (
    *QUICK, "dataset=adding", "dataset.num_steps=6", "dataset.train_size=104",
    "dataset.val_size=16", "dataset.test_size=16", "dataset.batch_size=8",
    "checkpoint_seconds=0.03", "trainer.log_every_n_steps=7", "trainer.max_epochs=90",
    "optimizer.lr=0.05",
)  # fmt: skip
SCHEDULES = {  # 13 steps an epoch
    "cosine": ("schedule=cosine", "schedule.warmup_steps=700", "optimizer=nadam"),
    "step": ("schedule=step", "schedule.warmup_steps=300", "schedule.step_size=100",
             "schedule.gamma=.8", "optimizer=radam"),
    "exponential": ("schedule=exponential", "schedule.step_size=200", "optimizer=adamax"),
    "plateau": ("schedule=plateau", "schedule.patience=20", "schedule.warmup_steps=300",
                "early_stopping.patience=50", "early_stopping.min_delta=0.1"),
    "max_steps": ("trainer.max_epochs=null", "trainer.max_steps=1099", "schedule=cosine"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_killed_in_warm_up_and_patience(name, tmp_path):
    lines = {line.partition("=")[0]: line for line in (*ADDING, *SCHEDULES[name])}
    config_ = config(*lines.values())
    process = attempt(config_, tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    killed = end_in_spite_of(KILLS, config_, tmp_path / "run", seed=len(name))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert killed > KILLS * 0.7
    print(f"{name}: {killed} kills")
    if name == "plateau":
        assert runs.read_run(tmp_path / "run").epochs < 90


@pytest.mark.slow
def test_without_the_random_state_the_outcome_differs(tmp_path):
    config_ = settings("digits", "full", tmp_path)
    attempt(config_, tmp_path / "whole").join()
    end_in_spite_of(2, config_, tmp_path / "run", seed=0, forget=True)
    assert outcome(tmp_path / "run")[0] != outcome(tmp_path / "whole")[0]


STEPS = ("fsync", "link", "mkdir", "open", "rename", "replace", "truncate", "unlink")  # of a disk


def work_until(number: int, config_: Experiment, folder: Path) -> None:
    """One attempt, in a process that dies at its n-th step in the run's folder."""
    left = [number]

    def dying(call):
        def step(path, *args, **kwargs):
            inside = isinstance(path, int) or str(path).startswith(str(folder))
            writes = call.__name__ != "open" or (args and args[0] & os.O_CREAT)
            left[0] -= bool(inside and writes)
            if left[0] < 0:
                os._exit(9)
            return call(path, *args, **kwargs)

        return step

    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))
    work(config_, folder, forget=False)


def few_of(numbers: range, fast: int) -> list:
    """Every number, most of them marked slow."""
    return [
        pytest.param(n, marks=() if n % (len(numbers) // fast) == 1 else pytest.mark.slow)
        for n in numbers
    ]


@pytest.mark.parametrize("number", few_of(range(40), 1))
@pytest.mark.parametrize("state", ["new", "stopped", "both cut, no sums"])
def test_killed_at_any_step_on_the_disk(state, number, begun, tmp_path):  # noqa: F811
    """A run that has just begun, one that goes on, and one that has to start anew."""
    config_, folder = config(*SETTINGS), tmp_path / "run"
    if state != "new":
        shutil.copytree(begun / "run", folder)
        config_ = resumed(config_, folder)
        DAMAGES.get(state, lambda folder: None)(folder)
    before = kept(folder)
    process = fork_server.start(work_until, (number, config_, folder))
    process.join()
    assert process.exitcode == 9
    if (folder / "manifest.json").exists():
        config_ = resumed(config_, folder)
    process = attempt(config_, folder)
    process.join()
    assert process.exitcode == 0
    assert outcome(folder) == outcome(begun / "whole")
    assert state == "stopped" or before <= kept(folder)
