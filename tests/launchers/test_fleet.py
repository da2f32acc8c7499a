"""The fleet launcher: jobs side by side in one process, each with its own bits, files and fate."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from commands import Forked, wait_for

from bptt_lab.training.launchers.fleet import FleetLauncher
from launchers import sweeps
from launchers.sweeps import SMALL, TINY, UNRULY
from launchers.unruly import FATES

FLEET = "hydra/launcher=fleet"
ONE = "hydra.launcher.n_jobs=1"


def results(folder: Path) -> dict[str, object]:
    """What a run's bits show in."""
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "metrics": (folder / "metrics.jsonl").read_text(),
        **{
            key: summary[key] for key in ("metrics", "parameters_sha256", "steps") if key in summary
        },
    }


def test_jobs_side_by_side_leave_what_they_leave_alone(tmp_path, run_here):
    sweep = (*TINY, "gradient=truncated", "gradient.k=3,4", "dry_run=false")
    for name, launcher in (("fleet", FLEET), ("process", "hydra/launcher=process")):
        code, out, err = run_here("-m", launcher, *sweep, f"hydra.sweep.dir={tmp_path / name}")
        assert code == 0, err
        assert ("times as fast" in out) == (name == "fleet")
    folders = [path.parent for path in sorted((tmp_path / "fleet").glob("*/summary.json"))]
    assert len(folders) == 2
    for folder in folders:
        alone = tmp_path / "process" / folder.name
        assert results(folder) == results(alone)
        same = ("command", "config", "id", "overrides", "choices")
        manifests = [json.loads((each / "manifest.json").read_text()) for each in (folder, alone)]
        assert [manifests[0][key] for key in same] == [manifests[1][key] for key in same]
        names = [{p.name for p in each.iterdir() if "tfevents" not in p.name}
                 for each in (folder, alone)]  # fmt: skip
        assert names[0] == names[1]
        assert (folder / "log.txt").read_text().count("run folder") == 1
        sizes = [(each / "checkpoints/last.ckpt").stat().st_size for each in (folder, alone)]
        assert sizes[0] < 1.1 * sizes[1]  # of its own numbers only


@pytest.mark.slow
def test_a_job_that_fails_in_a_fleet_harms_no_other(tmp_path, run_here):
    ways = "well,raise,diverge,exit_seven,kill"
    code, out, err = run_here("-m", FLEET, ONE, *UNRULY, *TINY, f"optimizer.how={ways}")
    assert code == 1, err
    found = {job.overrides[-1].partition("=")[2]: job for job in sweeps.jobs(tmp_path)}
    assert {how: (job.status, job.reason) for how, job in found.items()} == {
        "well": ("completed", ""),
        "raise": ("failed", "ValueError: meant to fail"),
        "diverge": ("diverged", "the loss is nan at step 4"),
        "exit_seven": ("failed", "its process ended with exit code 7 before the run did"),
        "kill": ("failed", "killed by SIGKILL, perhaps for want of memory"),
    }
    assert "jobs go on, each in its own process" in out
    code, _, err = run_here(*UNRULY, *TINY, "optimizer.how=well", "hydra.run.dir=outputs/alone")
    assert code == 0, err
    assert results(found["well"].folder) == results(tmp_path / "outputs/alone")


@pytest.mark.slow
def test_a_signal_stops_all_and_each_goes_on_alone_or_in_a_fleet(tmp_path, run_here):
    long = (*SMALL, "trainer.max_epochs=8", "checkpoint_seconds=0", "seed=range(3)")
    command = sweeps.start(tmp_path, "-m", FLEET, ONE, *long, how=Forked)
    wait_for(lambda: len(sweeps.checkpoints(tmp_path)) == 3)
    command.send_signal(signal.SIGINT)
    assert command.wait() == 130
    jobs = sweeps.jobs(tmp_path)
    assert {job.status for job in jobs} <= {"interrupted", "completed"}
    assert [job.reason for job in jobs if job.status != "completed"] == [
        "interrupted by SIGINT" for job in jobs if job.status != "completed"
    ]
    code, _, err = run_here(f"resume={str(jobs[0].folder)!r}", *long[:-1], "seed=0")
    assert code == 0, err
    code, _, err = run_here("-m", FLEET, *long, f"resume={sweeps.sweep_dir(tmp_path)}")
    assert code == 0, err
    for seed, job in enumerate(sweeps.jobs(tmp_path)):
        run = (*long[:-1], f"seed={seed}", f"hydra.run.dir=outputs/alone{seed}")
        code, _, err = run_here(*run)
        assert code == 0, err
        assert results(job.folder) == results(tmp_path / f"outputs/alone{seed}")


@pytest.mark.slow
def test_jobs_beside_one_that_hangs_save_and_go_on_alone(tmp_path, run_here, monkeypatch):
    asked = []

    def is_over(self, running, now):
        if len(running.jobs) > 1 and not asked:
            asked.append(wait_for(lambda: sweeps.checkpoints(tmp_path)))
            return True
        return own(self, running, now)

    own = FleetLauncher.is_over
    monkeypatch.setattr(FleetLauncher, "is_over", is_over)
    long = (*SMALL, "trainer.max_epochs=60", "seed=range(2)")
    limit = "hydra.launcher.time_limit=100000"
    code, out, err = run_here("-m", FLEET, ONE, limit, *long)
    assert code == 0, err
    assert {job.status for job in sweeps.jobs(tmp_path)} == {"completed"}
    assert "over its time limit" in out and "go on, each in its own process" in out


@pytest.mark.slow
def test_of_40_jobs_those_that_hang_die_or_raise_harm_no_other(
    tmp_path, run_here, hours_pass_at_each
):
    """One process at a time, so that hours pass for a job that hangs and for no other."""
    hours_pass_at_each(
        lambda: sum(log.read_text().count("hangs") for log in tmp_path.glob("outputs/*/*/log.txt"))
    )
    code, _, err = run_here(
        "-m", FLEET, ONE, "hydra.launcher.replicas=20", *UNRULY, *TINY, "optimizer.how=range(40)",
        "hydra.launcher.time_limit=3600", "hydra.launcher.grace=1",
    )  # fmt: skip
    assert code == 1, err
    kinds = {
        "raise": "meant to fail", "exit_zero": "exit code 0", "exit_seven": "exit code 7",
        "kill": "SIGKILL", "sleep": "over its time limit", "spin": "over its time limit",
        "diverge": "the loss is nan",
    }  # fmt: skip
    code, _, err = run_here(*UNRULY, *TINY, "optimizer.how=0", "hydra.run.dir=outputs/alone")
    assert code == 0, err
    for job in sweeps.jobs(tmp_path):
        number = int(job.folder.name[:3])
        assert (job.status == "completed") == (number not in FATES), (number, job)
        assert kinds.get(FATES.get(number, ""), "") in job.reason
        if job.status == "completed":
            assert results(job.folder) == results(tmp_path / "outputs/alone")


ADDING = (
    "dataset=adding", "dataset.num_steps=6", "dataset.train_size=104", "dataset.val_size=16",
    "dataset.test_size=16", "dataset.batch_size=8", "model.hidden_size=6", "callbacks=none",
    "num_threads=1", "trainer.log_every_n_steps=7", "trainer.max_epochs=70", "optimizer.lr=0.05",
    "early_stopping.patience=25", "early_stopping.min_delta=0.001", "schedule.warmup_steps=200",
)  # fmt: skip


@pytest.mark.slow
def test_a_fleet_with_schedules_killed_at_any_moment_ends_as_its_jobs_alone(tmp_path, run_here):
    """Its processes are all killed, now and then, and the sweep is continued."""
    dice, killed = random.Random(0), 0
    sweep = (*ADDING, "schedule=cosine,step,exponential,plateau", "schedule.patience=7",
             "schedule.gamma=.6", "schedule.step_size=150", "checkpoint_seconds=0.05")  # fmt: skip
    resume: tuple[str, ...] = ()
    for _ in range(8):
        command = sweeps.start(tmp_path, "-m", FLEET, ONE, *sweep, *resume, how=Forked)
        before = {path: path.stat().st_mtime_ns for path in sweeps.checkpoints(tmp_path)}
        wait_for(
            lambda command=command, before=before: command.poll() is not None
            or any(path.stat().st_mtime_ns != before.get(path)
                   for path in sweeps.checkpoints(tmp_path) if path.exists())
        )  # fmt: skip
        time.sleep(dice.uniform(0, 0.4))
        killed += command.poll() is None
        for pid in command.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        command.communicate()
        resume = (f"resume={sweeps.sweep_dir(tmp_path)}",)
    code, _, err = run_here("-m", FLEET, ONE, *sweep, *resume)
    assert code == 0, err
    assert killed > 4
    code, _, err = run_here("-m", *sweep, "hydra.sweep.dir=outputs/alone")
    assert code == 0, err
    for job in sweeps.jobs(tmp_path):
        assert results(job.folder) == results(tmp_path / "outputs/alone" / job.folder.name)
    print(f"{killed} kills of 4 jobs each")
