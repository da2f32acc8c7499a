"""What holds for every launcher, and for the sweep whose driver is killed again and again."""

from __future__ import annotations

import json
import random
import shutil
import time

import pytest
from commands import Fresh, wait_for

from launchers import sweeps
from launchers.sweeps import HERE, SMALL, TINY, UNRULY
from launchers.unruly import FATES

RAY = pytest.param("ray", (), marks=pytest.mark.slow)
SLURM = pytest.param("slurm", ("hydra.launcher.cluster=local",), marks=pytest.mark.slow)
REASONS = {
    "raise": "ValueError: meant to fail",
    "exit_zero": "its process ended with exit code 0 before the run did",
    "exit_seven": "its process ended with exit code 7 before the run did",
    "kill": "killed by SIGKILL, perhaps for want of memory",
    "sleep": "over its time limit of 50000 s, and would not stop",
    "spin": "over its time limit of 50000 s, and would not stop",
    "diverge": "the loss is nan at step 4",
}


def installed(launcher):
    if launcher in ("ray", "slurm"):
        pytest.importorskip({"ray": "ray", "slurm": "submitit"}[launcher])


@pytest.mark.slow
def test_of_forty_jobs_all_that_can_complete_do(tmp_path, run_here, hours_pass_once):
    hours_pass_once(
        lambda: len(sweeps.said(tmp_path, "hangs")) == 2 and len(sweeps.ended(tmp_path)) == 38
    )
    code, out, _ = run_here(
        "-m", *UNRULY, *TINY, "optimizer.how=range(40)", "hydra.launcher.n_jobs=3",
        "hydra.launcher.time_limit=50000", "hydra.launcher.grace=2",
    )  # fmt: skip
    assert code == 1
    jobs = sweeps.jobs(tmp_path)
    assert len(jobs) == 40 and len(FATES) == 12
    for number, job in enumerate(jobs):
        fate = FATES.get(number)
        if fate is None:
            assert job.status == "completed" and job.parameters_sha256 is not None
        else:
            assert job.status == ("diverged" if fate == "diverge" else "failed")
            assert job.reason == REASONS[fate]
            assert f"{job.status}: {job.folder.name}: {job.reason}" in out
    assert len({job.parameters_sha256 for job in jobs if job.status == "completed"}) == 1
    assert "28 of 40 jobs completed" in out


@pytest.mark.slow
def test_a_driver_killed_ten_times_ends_with_every_job_completed_once(tmp_path):
    draw = random.Random(0)
    options = (
        "-m", *UNRULY, *SMALL, "trainer.max_epochs=2", "checkpoint_seconds=0",
        "optimizer.how=slow", "seed=range(12)", "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert sweeps.run(undisturbed, *options).returncode == 0
    disturbed = tmp_path / "disturbed"
    disturbed.mkdir()
    resume: tuple[str, ...] = ()
    completed: dict[str, int] = {}

    def check_none_recomputed():
        for job in sweeps.jobs(disturbed):
            if job.status == "completed":
                inode = (job.folder / "summary.json").stat().st_ino
                assert completed.setdefault(job.folder.name, inode) == inode

    for _ in range(10):
        driver = sweeps.start(disturbed, *options, *resume, how=Fresh)
        wait_for(lambda: [*disturbed.glob("outputs/*_sweep/sweep.json")])
        # From the first moments of the fork server to the middle of a job.
        time.sleep(draw.uniform(0.5, 9))
        driver.kill()
        driver.wait()
        resume = (f"resume={sweeps.sweep_dir(disturbed).relative_to(disturbed)}",)
        if draw.random() < 0.5:  # sometimes start again while jobs of before are still saving
            wait_for(lambda driver=driver: not driver.processes())
            check_none_recomputed()
    last = sweeps.start(disturbed, *options, *resume)
    out, err = last.communicate()
    assert last.returncode == 0, out + err
    check_none_recomputed()
    wait_for(lambda: not last.processes())
    jobs, wanted = sweeps.jobs(disturbed), sweeps.jobs(undisturbed)
    assert [job.status for job in jobs] == ["completed"] * 12
    assert [job.parameters_sha256 for job in jobs] == [job.parameters_sha256 for job in wanted]


@pytest.mark.parametrize(
    "order", ["64-true,32-true", pytest.param("32-true,64-true", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("launcher", "more"), [("basic", ()), ("process", ()), RAY, SLURM])
def test_a_config_ends_the_same_wherever_it_runs(tmp_path, launcher, more, order):
    installed(launcher)
    alone = tmp_path / "alone"
    alone.mkdir()
    assert sweeps.run(alone, *TINY, "hydra.run.dir=outputs/run").returncode == 0
    sha256 = json.loads((alone / "outputs" / "run" / "summary.json").read_text())[
        "parameters_sha256"
    ]
    done = sweeps.run(
        tmp_path, "-m", f"hydra/launcher={launcher}", *more, *TINY, f"trainer.precision={order}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = sweeps.jobs(tmp_path)
    assert [j.parameters_sha256 for j in jobs if "32-true" in j.overrides[-1]] == [sha256]


@pytest.mark.parametrize(("launcher", "more"), [("process", ()), RAY, SLURM])
def test_a_sweep_is_taken_up_again(tmp_path, launcher, more):
    installed(launcher)
    gate = tmp_path / "gate"
    gate.touch()
    options = (
        "-m", f"hydra/launcher={launcher}", *more, *UNRULY, *TINY, f"optimizer.gate={gate}",
        "checkpoint_seconds=0", "optimizer.how=well,raise,kill",
    )  # fmt: skip
    done = sweeps.run(tmp_path, *options)
    assert done.returncode == 1, done.stderr
    first = sweeps.jobs(tmp_path)
    assert [job.status for job in first] == ["completed", "failed", "failed"], done.stdout
    kept = (first[0].folder / "summary.json").stat().st_ino
    gate.unlink()
    done = sweeps.run(tmp_path, *options, f"resume={first[0].folder.parent.relative_to(tmp_path)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 3 jobs are completed already" in done.stdout
    again = sweeps.jobs(tmp_path)
    assert [job.status for job in again] == ["completed"] * 3
    assert len({job.parameters_sha256 for job in again}) == 1
    assert (again[0].folder / "summary.json").stat().st_ino == kept
    # What failed by an error of its own begins anew; what was killed goes on.
    once, anew, twice = (len([*job.folder.glob("events.out.tfevents.*")]) for job in again)
    assert once == anew < twice


@pytest.mark.parametrize(("library", "extra"), [("ray", "ray"), ("submitit", "slurm")])
def test_a_missing_library_is_named_with_its_extra(tmp_path, library, extra, monkeypatch):
    # A module of that name that cannot be found: an entry None in sys.modules, set at start.
    shutil.copy(HERE / "unruly.py", tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        f"u.find_spec = lambda name, *a: None if name == '{library}' else find(name, *a)\n"
    )
    monkeypatch.setattr(sweeps, "HERE", tmp_path)
    done = sweeps.run(tmp_path, "-m", f"hydra/launcher={extra}", "seed=0,1", how=Fresh)
    assert done.returncode == 2
    assert done.stderr == (
        f"bptt-train: hydra/launcher={extra}: needs the package {library}; "
        f"run pip install 'bptt_lab[{extra}]'\n"
    )
