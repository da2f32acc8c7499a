"""Jobs on a Ray cluster of two machines, one of which is lost."""

from __future__ import annotations

import os

import pytest
from commands import wait_for

from launchers import sweeps
from launchers.sweeps import SMALL, TINY, UNRULY

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    Cluster = pytest.importorskip("ray.cluster_utils").Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    yield made
    made.shutdown()


# Ray's own sockets and processes are not ours to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_jobs_of_a_lost_machine_continue_on_another(tmp_path, cluster):
    second = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    options = (
        "-m", *UNRULY, *SMALL, "trainer.max_epochs=3", "checkpoint_seconds=0",
        "optimizer.how=slow", "seed=0,1,2",
    )  # fmt: skip
    driver = sweeps.start(
        tmp_path, *options, "hydra/launcher=ray", f"hydra.launcher.address={cluster.address!r}"
    )
    wait_for(lambda: len(sweeps.checkpoints(tmp_path)) >= 2)
    cluster.remove_node(second, allow_graceful=False)
    out, err = driver.communicate()
    assert driver.returncode == 0, out + err
    jobs = sweeps.jobs(tmp_path)
    assert [job.status for job in jobs] == ["completed"] * 3
    # One of them was started twice; its steps are counted through.
    starts = [len([*job.folder.glob("events.out.tfevents.*")]) for job in jobs]
    assert max(starts) > min(starts), starts
    plain = tmp_path / "plain"
    plain.mkdir()
    assert sweeps.run(plain, *options).returncode == 0
    assert [job.parameters_sha256 for job in jobs] == [
        job.parameters_sha256 for job in sweeps.jobs(plain)
    ]


def test_a_worker_that_dies_takes_no_other_along(tmp_path):
    done = sweeps.run(
        tmp_path, "-m", *UNRULY, *TINY, "hydra/launcher=ray", "hydra.launcher.max_retries=1",
        "optimizer.how=well,raise,exit_zero,kill,diverge",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    lost = ("failed", "its worker was lost (WorkerCrashedError)")
    assert [(job.status, job.reason) for job in sweeps.jobs(tmp_path)] == [
        ("completed", ""),
        ("failed", "ValueError: meant to fail"),
        lost,
        lost,
        ("diverged", "the loss is nan at step 4"),
    ]
    assert "1 of 5 jobs completed" in done.stdout


def test_a_signal_to_the_driver_stops_the_workers_and_they_save(tmp_path):
    driver = sweeps.start(
        tmp_path, "-m", *UNRULY, *SMALL, "trainer.max_epochs=1000",
        "optimizer.how=slow", "hydra/launcher=ray", "checkpoint_seconds=1",
        f"seed=range({(os.cpu_count() or 1) + 1})",
    )  # fmt: skip
    wait_for(lambda: sweeps.checkpoints(tmp_path))
    driver.terminate()
    out, _ = driver.communicate()
    assert driver.returncode == 143, out
    assert {job.status for job in sweeps.jobs(tmp_path)} <= {"interrupted", "waiting"}
    assert "interrupted" in {job.status for job in sweeps.jobs(tmp_path)}
    wait_for(lambda: not driver.processes())
