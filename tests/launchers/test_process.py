"""The process launcher: jobs that die, hang or are killed, drivers that are, and nothing left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from commands import Forked, Fresh, wait_for

from bptt_lab.config import gpus
from bptt_lab.training.launchers import process
from launchers import sweeps
from launchers.sweeps import SMALL, TINY, UNRULY

# A run that does not end by itself within a test.
LONG = (*SMALL, "trainer.max_epochs=100000", "checkpoint_seconds=0")
SLOW = "optimizer.how=slow"
PATIENT = "hydra.launcher.grace=600"


def statuses(tmp_path: Path) -> list[str]:
    return [job.status for job in sweeps.jobs(tmp_path)]


def test_no_job_harms_another_and_each_failure_has_its_reason(tmp_path, run_here, hours_pass_once):
    hanging, ending = ("sleep", "spin", "stubborn"), ("kill", "exit_zero", "well", "exit_seven")
    ways = [*hanging, *ending, "raise", "diverge"]
    hours_pass_once(
        lambda: len(sweeps.said(tmp_path, "hangs")) == 3 and len(sweeps.ended(tmp_path)) == 6
    )
    code, out, err = run_here(
        "-m", *UNRULY, *TINY, f"optimizer.how={','.join(ways)}", "hydra.launcher.n_jobs=4",
        "hydra.launcher.time_limit=50000", "hydra.launcher.grace=1",
    )  # fmt: skip
    assert code == 1, err
    found = {job.overrides[-1].partition("=")[2]: job for job in sweeps.jobs(tmp_path)}
    reasons = {how: (job.status, job.reason) for how, job in found.items()}
    over = ("failed", "over its time limit of 50000 s, and would not stop")
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
    assert err == ""  # nothing leaked, nothing printed by dying jobs
    for how, job in found.items():
        log = (job.folder / "log.txt").read_text()
        assert ("meant to fail" in log) == (how == "raise")
        assert ("see outputs/" in out) and (how == "well" or job.folder.name in out)
    assert "1 of 9 jobs completed" in out
    assert "[9 of 9 done, 0 running, 8 failed]" in out
    well = next(line for line in out.splitlines() if " completed " in line and "how=well" in line)
    assert f"test/accuracy {found['well'].metrics['test/accuracy']:.4f}" in well


def test_a_job_ends_though_its_thread_does_not_and_ctrl_c_in_it_is_an_interruption(
    tmp_path, run_here
):
    ways = "optimizer.how=leave_a_thread,press_ctrl_c"
    code, _, err = run_here("-m", *UNRULY, *TINY, ways, "hydra.launcher.n_jobs=1")
    assert code == 1, err
    jobs = sweeps.jobs(tmp_path)
    assert [(job.status, job.reason) for job in jobs] == [
        ("completed", ""),
        ("interrupted", "KeyboardInterrupt"),
    ]
    assert "Traceback" not in (jobs[1].folder / "log.txt").read_text()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_the_driver_stops_the_jobs_and_they_save(tmp_path, number):
    stops_and_saves(tmp_path, number, Forked)


@pytest.mark.slow  # it imports everything once more
def test_a_sweep_with_a_server_of_its_own(tmp_path):
    (tmp_path / "random.py").write_text("raise SystemExit('this hides a module')")
    stops_and_saves(tmp_path, signal.SIGTERM, Fresh)


def stops_and_saves(tmp_path: Path, number: signal.Signals, how: type) -> None:
    options = ("-m", *UNRULY, *LONG, SLOW, "hydra.launcher.n_jobs=2", PATIENT, "seed=0,1,2")
    driver = sweeps.start(tmp_path, *options, how=how)
    wait_for(lambda: len(sweeps.checkpoints(tmp_path)) == 2)
    os.killpg(driver.pid, number)  # as a terminal does; the fork server hears it too
    out, _ = driver.communicate()
    assert driver.returncode == 128 + number
    assert statuses(tmp_path) == ["interrupted", "interrupted", "waiting"]
    assert {job.reason for job in sweeps.jobs(tmp_path)} == {f"interrupted by {number.name}", ""}
    assert "0 of 3 jobs completed" in out
    wait_for(lambda: not driver.processes())


def test_a_second_signal_kills_what_will_not_stop(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY, "optimizer.how=stubborn", "seed=0,1", PATIENT,
        "hydra.launcher.n_jobs=1",
    )  # fmt: skip
    wait_for(lambda: sweeps.said(tmp_path, "hangs"))
    driver.send_signal(signal.SIGINT)
    wait_for(lambda: sweeps.said(tmp_path, "was asked to stop"))
    assert driver.poll() is None
    driver.send_signal(signal.SIGINT)
    driver.communicate()
    assert driver.returncode == 130
    assert statuses(tmp_path) == ["interrupted", "waiting"]
    wait_for(lambda: not driver.processes())


def test_the_jobs_of_a_killed_driver_save_and_stop(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *LONG, SLOW, "hydra.launcher.n_jobs=2", PATIENT, "seed=0,1,2"
    )
    wait_for(lambda: len(sweeps.checkpoints(tmp_path)) == 2)
    driver.kill()
    wait_for(lambda: not driver.processes())
    assert statuses(tmp_path) == ["interrupted", "interrupted", "waiting"]


def test_a_hanging_job_of_a_killed_driver_is_killed(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY, "optimizer.how=stubborn", "hydra.launcher.grace=1",
        "seed=0,1",
    )  # fmt: skip
    wait_for(lambda: sweeps.said(tmp_path, "hangs"))
    driver.kill()
    wait_for(lambda: not driver.processes())


@pytest.mark.slow
def test_a_job_may_have_several_processes(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *TINY, "device=ddp_cpu", "seed=0,1", "hydra.launcher.n_jobs=1"
    )
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path) == ["completed", "completed"]


@pytest.mark.slow
def test_ranks_of_a_killed_driver_stop(tmp_path):
    driver = sweeps.start(tmp_path, "-m", *UNRULY, *LONG, SLOW, "device=ddp_cpu", "seed=0", PATIENT)
    wait_for(lambda: sweeps.checkpoints(tmp_path))
    driver.kill()
    wait_for(lambda: not driver.processes())


@pytest.mark.slow
def test_ranks_of_a_killed_run_stop(tmp_path):
    driver = sweeps.start(tmp_path, *UNRULY, *LONG, SLOW, "device=ddp_cpu")
    wait_for(lambda: [*tmp_path.glob("outputs/*/checkpoints/last.ckpt")])
    assert len(driver.processes()) > 2
    driver.kill()
    wait_for(lambda: not driver.processes())


@pytest.mark.slow
def test_two_threads_work_after_the_fork(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", "dataset=digits", "dataset.layout=rows", "trainer.max_epochs=1",
        "model.hidden_size=256", "num_threads=2", "gradient=full,autograd",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert [job.manifest["threads"] for job in sweeps.jobs(tmp_path)] == [2, 2]


def test_fail_fast_stops_the_others(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *UNRULY, *LONG, f"{SLOW},raise,well", "hydra.launcher.n_jobs=2",
        PATIENT, "fail_fast=true",
    )  # fmt: skip
    assert done.returncode == 1
    assert statuses(tmp_path) == ["interrupted", "failed", "waiting"]
    assert sweeps.jobs(tmp_path)[0].reason == "job 1 failed, and fail_fast=true"


@pytest.mark.slow
def test_a_job_past_its_time_that_stops_when_asked_is_interrupted(
    tmp_path, run_here, hours_pass_once
):
    hours_pass_once(lambda: bool(sweeps.checkpoints(tmp_path)))
    code, *_ = run_here(
        "-m", *UNRULY, *LONG, "optimizer.how=slower", "hydra.launcher.time_limit=50000",
        "hydra.launcher.grace=90000",
    )  # fmt: skip
    assert code == 1
    (job,) = sweeps.jobs(tmp_path)
    assert job.steps  # it came to the end of its step, and wrote down how far it was
    assert (job.status, job.reason) == ("interrupted", "over its time limit of 50000 s")


@pytest.mark.slow
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


@pytest.mark.slow
def test_jobs_take_the_gpus_in_turn(tmp_path, monkeypatch, run_here):
    monkeypatch.setattr(gpus, "count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5")
    code, _, err = run_here(
        "-m", *UNRULY, *TINY, "device=auto", "seed=0,1,2", "optimizer.how=show_gpu",
        "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    assert code == 0, err
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
        ("+hydra.launcher.njobs=2", "njobs=2: there is no such setting; did you mean n_jobs?"),
    ],
)
def test_options_outside_their_limits_are_refused_before_anything_starts(tmp_path, option, said):
    done = sweeps.run(tmp_path, "-m", *TINY, "seed=0,1", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow  # another server imports everything once more
def test_a_sweep_survives_the_server_that_its_jobs_come_from(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *TINY, "hydra.launcher.n_jobs=1", "optimizer.how=sleep,well"
    )
    wait_for(lambda: sweeps.said(tmp_path, "hangs"))
    (server,) = [
        number
        for number in driver.processes()
        if Path(f"/proc/{number}/stat").read_text().split()[3] == str(driver.pid)
    ]
    os.kill(server, signal.SIGKILL)
    driver.communicate()
    assert driver.returncode == 1
    assert statuses(tmp_path) == ["failed", "completed"]
    wait_for(lambda: not driver.processes())


def test_cores_are_those_that_may_be_used():
    assert 1 <= process.cores() <= (os.cpu_count() or 1)
