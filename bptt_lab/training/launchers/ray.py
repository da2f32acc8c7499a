"""A Ray cluster: a fresh worker for each job, started again where a machine is lost.

The machines share a file system, in which the run folders are.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

from omegaconf import DictConfig

from bptt_lab import runs
from bptt_lab.core.validation import Ge, checked
from bptt_lab.runs import outcome, signals
from bptt_lab.training.launchers import worker
from bptt_lab.training.launchers.base import GRACE, POLL, SweepLauncher, require
from bptt_lab.training.launchers.worker import Sweep, SweepJob

OBJECT_STORE = 100 * 2**20  # bytes; jobs exchange next to nothing


class RayLauncher(SweepLauncher):
    """Runs jobs on a Ray cluster.

    Args:
        address: of the cluster, "auto" for the one that this machine belongs to; None starts one
            on this machine for as long as the sweep takes.
        n_cpus: what a job takes of a machine.
        max_retries: how often a job is started again whose worker or machine was lost; it
            continues from its checkpoint.

    Raises:
        ConfigError: where a value is outside its limits, or Ray is not installed.
    """

    @checked
    def __init__(
        self,
        *,
        address: str | None = None,
        n_cpus: Annotated[int, Ge(1)] = 1,
        max_retries: Annotated[int, Ge(0)] = 2,
    ) -> None:
        require("ray", "hydra/launcher", "ray")
        self.address = address
        self.n_cpus = n_cpus
        self.max_retries = max_retries

    def run(self, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        """Run jobs until all have ended."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        alone: dict[str, Any] = {
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
            "_node_ip_address": "127.0.0.1",  # nobody else's business
        }
        ray.init(
            address=self.address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(alone if self.address is None else {}),
        )
        stop.install()  # Ray answers SIGTERM by leaving at once
        try:
            self._run(ray, jobs, stop)
        finally:
            ray.shutdown()  # and with it what is left of the jobs
            for job in self.at_work():
                reason = self.halted(stop) or "its launcher failed"
                outcome.conclude_process(job.folder, self.marks[job.number], reason, reason)

    def _run(self, ray: Any, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        device = self.sweep.config.device
        task = ray.remote(
            num_cpus=self.n_cpus,
            num_gpus=device.devices if device.accelerator == "gpu" else 0,
            max_calls=1,  # a fresh process
            max_retries=self.max_retries,
        )(_work)
        shared = ray.put(self.sweep)
        running = {task.remote(shared, job, self.composed(job)): job for job in jobs}
        asked, kill_at = "", float("inf")
        while running:
            ended, _ = ray.wait(list(running), timeout=POLL)
            for ref in ended:
                job, reason, seconds = running.pop(ref), "", None
                try:
                    seconds = ray.get(ref)
                    reason = "its worker ended before the run did"
                except ray.exceptions.TaskCancelledError:
                    if not self.wrote(job):
                        continue  # it never began
                except ray.exceptions.RayError as error:
                    reason = f"its worker was lost ({type(error).__name__})"
                self.conclude(job, reason, asked, seconds)
            self.sign_of_life()
            late, halted = time.monotonic() > kill_at, self.halted(stop)
            if halted and not asked:
                asked, kill_at = halted, time.monotonic() + GRACE
            elif not late:
                continue
            for ref in running:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(ref, force=late)


def _work(sweep: Sweep, job: SweepJob, config: DictConfig) -> float:
    """Run a job, which has lost a worker before if it says `running`; return its seconds."""
    began = time.monotonic()
    with suppress(SystemExit):  # Ray would take it for the loss of the worker
        worker.work(sweep, job, config, resume=runs.read_status(job.folder) == "running")
    return time.monotonic() - began
