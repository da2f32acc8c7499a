"""The process launcher: jobs that die, hang or are killed, drivers that are, and nothing left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from bptt_lab.commands.train import cli
from bptt_lab.config import gpus
from bptt_lab.training.launchers import process
from launchers import sweeps
from launchers.sweeps import TINY, UNRULY

LONG = ("trainer.max_epochs=1000", "optimizer.how=slow", "checkpoint_seconds=1")


def wait_for(what, seconds=60.0):
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def training(tmp_path: Path, number: int) -> bool:
    """Whether so many jobs of the sweep are past their first checkpoint."""
    return len([*tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")]) >= number


def statuses(tmp_path: Path) -> list[str]:
    return [job.status for job in sweeps.jobs(tmp_path)]


def test_no_job_harms_another_and_each_failure_has_its_reason(tmp_path):
    ways = "well,raise,exit_zero,exit_seven,kill,sleep,spin,stubborn,diverge"
    done = sweeps.run(
        tmp_path, "-m", *UNRULY, *TINY, f"optimizer.how={ways}", "hydra.launcher.n_jobs=3",
        "hydra.launcher.time_limit=5", "hydra.launcher.grace=1",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = {job.overrides[-1].partition("=")[2]: job for job in sweeps.jobs(tmp_path)}
    reasons = {how: (job.status, job.reason) for how, job in found.items()}
    over = ("failed", "over its time limit of 5 s, and would not stop")
    assert reasons == {
        "well": ("completed", ""),
        "raise": ("failed", "ValueError: meant to fail"),
        "exit_zero": ("failed", "its process ended with exit code 0 before the run did"),
        "exit_seven": ("failed", "its process ended with exit code 7 before the run did"),
        "kill": ("failed", "killed by SIGKILL, perhaps for want of memory"),
        "sleep": over,
        "spin": over,
        "stubborn": over,
        "diverge": ("diverged", "the loss is nan at step 4"),
    }
    assert found["raise"].raised and not found["kill"].raised
    assert done.stderr == ""  # nothing leaked, nothing printed by dying jobs
    for how, job in found.items():
        log = (job.folder / "log.txt").read_text()
        assert ("meant to fail" in log) == (how == "raise")
        assert ("see outputs/" in done.stdout) and (how == "well" or job.folder.name in done.stdout)
    assert "1 of 9 jobs completed" in done.stdout


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGTERM,
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_the_driver_stops_the_jobs_and_they_save(tmp_path, number):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY[:3], "num_threads=1", *LONG, "hydra.launcher.n_jobs=2",
        "seed=0,1,2",
    )  # fmt: skip
    wait_for(lambda: training(tmp_path, 2))
    os.killpg(driver.process.pid, number)  # as a terminal does; the fork server hears it too
    out, _ = driver.process.communicate(timeout=120)
    assert driver.process.returncode == 128 + number
    assert statuses(tmp_path) == ["interrupted", "interrupted", "waiting"]
    assert {job.reason for job in sweeps.jobs(tmp_path)} == {f"interrupted by {number.name}", ""}
    assert "0 of 3 jobs completed" in out
    wait_for(lambda: not driver.processes(), 10)


def test_a_second_signal_kills_what_will_not_stop(tmp_path):
    driver = sweeps.start(tmp_path, "-m", *UNRULY, *TINY, "optimizer.how=stubborn", "seed=0,1")
    wait_for(lambda: [*tmp_path.glob("outputs/*/*/status.json")])
    time.sleep(2)
    driver.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert driver.process.poll() is None
    driver.process.send_signal(signal.SIGINT)
    driver.process.communicate(timeout=10)
    assert driver.process.returncode == 130
    assert statuses(tmp_path)[0] == "interrupted"
    wait_for(lambda: not driver.processes(), 5)


def test_the_jobs_of_a_killed_driver_save_and_stop(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY[:3], "num_threads=1", *LONG, "hydra.launcher.n_jobs=2",
        "seed=0,1,2",
    )  # fmt: skip
    wait_for(lambda: training(tmp_path, 2))
    driver.kill()
    wait_for(lambda: not driver.processes(), 10)
    assert statuses(tmp_path) == ["interrupted", "interrupted", "waiting"]


def test_a_hanging_job_of_a_killed_driver_is_killed(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY, "optimizer.how=stubborn", "hydra.launcher.grace=1",
        "seed=0,1",
    )  # fmt: skip
    wait_for(lambda: [*tmp_path.glob("outputs/*/*/status.json")])
    time.sleep(1.5)
    driver.kill()
    wait_for(lambda: not driver.processes(), 10)


@pytest.mark.slow
def test_a_job_may_have_several_processes(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *TINY, "device=ddp_cpu", "seed=0,1", "hydra.launcher.n_jobs=1"
    )
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path) == ["completed", "completed"]


@pytest.mark.slow
def test_ranks_of_a_killed_driver_stop(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY[:3], *LONG, "device=ddp_cpu", "seed=0",
        "hydra.launcher.grace=5",
    )  # fmt: skip
    wait_for(lambda: training(tmp_path, 1))
    driver.kill()
    wait_for(lambda: not driver.processes(), 20)


@pytest.mark.slow
def test_ranks_of_a_killed_run_stop(tmp_path):
    driver = sweeps.start(tmp_path, *UNRULY, *TINY[:3], *LONG, "device=ddp_cpu")
    wait_for(lambda: [*tmp_path.glob("outputs/*/checkpoints/last.ckpt")])
    assert len(driver.processes()) > 2
    driver.kill()
    wait_for(lambda: not driver.processes(), 20)


@pytest.mark.slow
def test_two_threads_work_after_the_fork(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *TINY[1:4], "model.hidden_size=256", "num_threads=2",
        "gradient=full,autograd", "hydra.launcher.time_limit=60", "hydra.launcher.grace=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert [job.manifest["threads"] for job in sweeps.jobs(tmp_path)] == [2, 2]


def test_fail_fast_stops_the_others(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *UNRULY, *TINY[:3], "num_threads=1", "trainer.max_epochs=1000",
        "optimizer.how=slow,raise,well", "hydra.launcher.n_jobs=2", "fail_fast=true",
    )  # fmt: skip
    assert done.returncode == 1
    assert statuses(tmp_path) == ["interrupted", "failed", "waiting"]
    assert sweeps.jobs(tmp_path)[0].reason == "job 1 failed, and fail_fast=true"


def test_a_job_past_its_time_that_stops_when_asked_is_interrupted(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *UNRULY, *TINY[:3], *LONG, "num_threads=1", "seed=0",
        "hydra.launcher.time_limit=2",
    )  # fmt: skip
    assert done.returncode == 1
    (job,) = sweeps.jobs(tmp_path)
    assert (job.status, job.reason) == ("interrupted", "over its time limit of 2 s")


def test_jobs_start_where_the_list_says(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *TINY, "gradient=full,truncated", "gradient.k=2,3",
        "hydra.sweep.subdir='${hydra.job.num}_${bptt_name:${seed},${hydra:runtime.choices.gradient}}'",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = sweeps.sweep_dir(tmp_path)
    listed = [job["folder"] for job in sweeps.papers(folder)["jobs"]]
    assert listed == ["0_0_full", "1_0_truncated", "2_0_truncated"]
    assert sorted(path.parent.name for path in folder.glob("*/status.json")) == listed


def test_jobs_take_the_gpus_in_turn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(sweeps.HERE))
    monkeypatch.setattr(gpus, "count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5")
    arguments = [
        "-m", *UNRULY, *TINY, "device=auto", "seed=0,1,2", "optimizer.how=show_gpu",
        "hydra.launcher.n_jobs=2",
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["bptt-train", *arguments])
    assert cli.main() == 0, capsys.readouterr()
    logs = [(job.folder / "log.txt").read_text() for job in sweeps.jobs(tmp_path)]
    seen = [log.partition("sees ")[2].partition("\n")[0] for log in logs]
    assert seen[:2] == ["4", "GPU-5"] and seen[2] in seen[:2]


def test_gpus_are_named_as_cuda_names_them(monkeypatch):
    monkeypatch.setattr(gpus, "count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert process.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert process.visible_gpus() == ["3", "1"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("hydra.launcher.n_jobs=0", "n_jobs=0: must be at least 1"),
        ("hydra.launcher.n_jobs=1.5", "n_jobs=1.5: must be an integer or null"),
        ("hydra.launcher.time_limit=0", "time_limit=0: must be greater than 0"),
        ("hydra.launcher.grace=-1", "grace=-1: must be at least 0"),
        ("hydra.launcher.grace=null", "grace=null: must be a number"),
        ("+hydra.launcher.njobs=2", "njobs=2: is no setting; did you mean n_jobs?"),
    ],
)
def test_options_outside_their_limits_are_refused_before_anything_starts(tmp_path, option, said):
    done = sweeps.run(tmp_path, "-m", *TINY, "seed=0,1", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_file_in_the_folder_hides_no_module(tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('this is not random')")
    done = sweeps.run(tmp_path, "-m", *TINY, "seed=0,1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_sweep_survives_the_server_that_its_jobs_come_from(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY, "hydra.launcher.n_jobs=1", "optimizer.how=slow,well"
    )
    wait_for(lambda: training(tmp_path, 1) or [*tmp_path.glob("outputs/*/*/status.json")])
    (server,) = [
        number
        for number in driver.processes()
        if Path(f"/proc/{number}/stat").read_text().split()[3] == str(driver.process.pid)
        and b"forkserver" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
    os.kill(server, signal.SIGKILL)
    driver.process.communicate(timeout=120)
    assert driver.process.returncode == 1
    assert statuses(tmp_path) == ["failed", "completed"]
    wait_for(lambda: not driver.processes(), 5)


def test_cores_are_those_that_may_be_used():
    assert 1 <= process.cores() <= (os.cpu_count() or 1)
