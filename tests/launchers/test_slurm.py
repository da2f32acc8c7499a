"""Jobs through submitit, on its stand-in for a cluster: processes of this machine."""

from __future__ import annotations

import pytest
from commands import wait_for

from launchers import sweeps
from launchers.sweeps import SMALL, TINY, UNRULY

pytestmark = pytest.mark.slow
pytest.importorskip("submitit")
LOCAL = ("hydra/launcher=slurm", "hydra.launcher.cluster=local")


def test_a_job_that_dies_takes_no_other_along(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *UNRULY, *TINY, *LOCAL, "optimizer.how=well,raise,kill,diverge"
    )
    assert done.returncode == 1, done.stderr
    assert [(job.status, job.reason) for job in sweeps.jobs(tmp_path)] == [
        ("completed", ""),
        ("failed", "ValueError: meant to fail"),
        ("failed", "its process ended (finished) before the run did"),
        ("diverged", "the loss is nan at step 4"),
    ]
    folder = sweeps.sweep_dir(tmp_path)
    assert [*(folder / ".submitit").iterdir()]  # all of submitit's files are in there
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_a_signal_to_the_driver_stops_the_jobs_and_they_save(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *SMALL, "trainer.max_epochs=1000",
        "optimizer.how=slow", *LOCAL, "checkpoint_seconds=1", "seed=0,1",
    )  # fmt: skip
    wait_for(lambda: len(sweeps.checkpoints(tmp_path)) >= 2)
    driver.terminate()
    out, _ = driver.communicate()
    assert driver.returncode == 143, out
    assert [job.status for job in sweeps.jobs(tmp_path)] == ["interrupted"] * 2
    wait_for(lambda: not driver.processes())
