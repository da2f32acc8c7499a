"""A Slurm cluster, through submitit: one array of jobs, in a folder that all machines share."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from omegaconf import DictConfig

from bptt_lab.core.validation import Ge, Gt, checked
from bptt_lab.runs import signals
from bptt_lab.training.launchers import worker
from bptt_lab.training.launchers.base import SweepLauncher, require
from bptt_lab.training.launchers.worker import Sweep, SweepJob

POLL = 1.0  # seconds between two looks at the jobs


class SlurmLauncher(SweepLauncher):
    """Runs jobs on a Slurm cluster.

    Args:
        folder: for submitit's own files.
        cluster: "slurm"; "local" for processes of this machine, all at once, to try it out; None
            for Slurm where there is one, else local.
        timeout_min: minutes that a job may take. Slurm warns it beforehand, and it saves.
        cpus_per_task: cores of a job.
        mem_gb: memory of a job in GiB; None for the cluster's default.
        gpus: GPUs of a job.
        partition: of the cluster; None for its default.
        array_parallelism: how many jobs at a time.
        additional_parameters: further options of sbatch, by name.

    Raises:
        ConfigError: where a value is outside its limits, or submitit is not installed.
    """

    @checked
    def __init__(
        self,
        *,
        folder: str,
        cluster: Literal["slurm", "local"] | None = None,
        timeout_min: Annotated[int, Ge(1)] = 60,
        cpus_per_task: Annotated[int, Ge(1)] = 1,
        mem_gb: Annotated[float | None, Gt(0)] = None,
        gpus: Annotated[int, Ge(0)] = 0,
        partition: str | None = None,
        array_parallelism: Annotated[int, Ge(1)] = 256,
        additional_parameters: dict[str, object] | None = None,
    ) -> None:
        require("submitit", "hydra/launcher", "slurm")
        self.folder = folder
        self.cluster = cluster
        parameters = {
            "name": "bptt_lab",
            "timeout_min": timeout_min,
            "cpus_per_task": cpus_per_task,
            "mem_gb": mem_gb,
            "gpus_per_node": gpus or None,
            "slurm_partition": partition,
            "slurm_array_parallelism": array_parallelism,
            "slurm_additional_parameters": dict(additional_parameters or {}) or None,
        }
        self.parameters = {name: v for name, v in parameters.items() if v is not None}

    def run(self, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        """Run jobs until all have ended."""
        import submitit

        executor = submitit.AutoExecutor(Path(self.folder).absolute(), cluster=self.cluster)
        executor.update_parameters(**self.parameters)
        with executor.batch():  # one array
            running = {
                job: executor.submit(_work, self.sweep, job, self.composed(job)) for job in jobs
            }
        asked = ""
        while running:
            for job in [job for job, task in running.items() if task.done()]:
                task = running.pop(job)
                if asked and not self.wrote(job):
                    continue  # it never began
                ended = f"its process ended ({task.state.lower()}) before the run did"
                self.conclude(job, ended, asked)
            if not asked and (asked := self.halted(stop)):
                for task in running.values():
                    task.cancel(check=False)
            self.sign_of_life()
            time.sleep(POLL)


def _work(sweep: Sweep, job: SweepJob, config: DictConfig) -> None:
    # Slurm warns by it that the time is over: then save and stop.
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with suppress(SystemExit):  # status.json says what it would say
        worker.work(sweep, job, config)
