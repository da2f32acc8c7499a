"""A fresh process for each job, forked from a server that has torch and Lightning loaded.

A job starts with nothing that another one left, and dies without harming another. A fork takes
milliseconds, where to import everything again takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

from bptt_lab.config import gpus
from bptt_lab.core.validation import Ge, Gt, checked
from bptt_lab.runs import signals
from bptt_lab.training.launchers.base import SweepLauncher
from bptt_lab.training.launchers.pool import Pool
from bptt_lab.training.launchers.worker import SweepJob


class ProcessLauncher(SweepLauncher):
    """Runs jobs side by side on this machine.

    Args:
        n_jobs: how many at a time; None for as many as the cores have threads for.
        time_limit: seconds that a job may take; None for no limit.
        grace: seconds that a job asked to stop gets for saving, before it is killed.

    Raises:
        ConfigError: where a value is outside its limits.
    """

    @checked
    def __init__(
        self,
        *,
        n_jobs: Annotated[int | None, Ge(1)] = None,
        time_limit: Annotated[float | None, Gt(0)] = None,
        grace: Annotated[float, Ge(0)] = 30,
    ) -> None:
        self.n_jobs = n_jobs
        self.time_limit = time_limit
        self.grace = grace

    def run(self, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        """Run jobs until all have ended."""
        device = self.sweep.config.device
        pins = visible_gpus() if device.accelerator != "cpu" and device.devices == 1 else []
        n_jobs = self.n_jobs or max(1, cores() // self._threads(jobs))
        Pool(self, min(n_jobs, len(jobs)), pins, self.time_limit, self.grace).run(jobs, stop)

    def _threads(self, jobs: Sequence[SweepJob]) -> int:
        """The most threads that any of the jobs takes."""
        config = self.sweep.config
        swept = [
            line.partition("=")[2]
            for job in jobs
            for line in job.overrides
            if line.startswith("num_threads=")
        ]
        return max(int(config.num_threads), int(config.device.devices), *map(int, swept))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def visible_gpus() -> list[str]:
    """The GPUs that a process sees, as CUDA_VISIBLE_DEVICES would name them one by one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    found = gpus.count()
    return named.split(",")[:found] if named else [str(number) for number in range(found)]
