"""Many small jobs in one process: they share what a step costs beside its computations."""

import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Annotated, Any

from bptt_lab.config import fleets, memory_limit
from bptt_lab.config.compose import resolved
from bptt_lab.core.validation import Ge, Gt, checked
from bptt_lab.runs import outcome, streams
from bptt_lab.training.fleet import worker
from bptt_lab.training.launchers.process import ProcessLauncher, Running
from bptt_lab.training.launchers.worker import SweepJob


@dataclass
class RunningFleet(Running):
    """A fleet at work."""

    told: Connection | None = None  # gets what its process tells of every job that has ended
    steps: Any = None  # counts whenever another of its jobs is at work
    counted: int = -1
    counted_at: float = math.inf


class FleetLauncher(ProcessLauncher):
    """Runs jobs of one kind side by side in one process, and every other one in its own.

    Each job has the bits, the files and the fate that it has by itself. Where a fleet's process
    dies, those of its jobs that have not ended go on alone, each in a process of its own.

    Args:
        replicas: the most jobs of a fleet; None for as many as memory holds, at most 32.
        n_jobs: processes at a time; None for as many as the cores have threads for.
        time_limit: seconds of computation that a job may take; None for no limit.
        grace: seconds that a job asked to stop gets for saving, before its process is killed.

    Raises:
        ConfigError: where a value is outside its limits.
    """

    @checked
    def __init__(
        self,
        *,
        replicas: Annotated[int | None, Ge(1)] = None,
        n_jobs: Annotated[int | None, Ge(1)] = None,
        time_limit: Annotated[float | None, Gt(0)] = None,
        grace: Annotated[float, Ge(0)] = 30,
    ) -> None:
        super().__init__(n_jobs=n_jobs, time_limit=time_limit, grace=grace)
        self.replicas = replicas

    def shared_out(self, jobs: Sequence[SweepJob], processes: int) -> Sequence[list[SweepJob]]:
        """Return the jobs of every process: the fleets', then those that run alone."""
        self.configs = {job.number: self.composed(job) for job in jobs}  # each takes a while
        configs = [resolved(self.configs[job.number]) for job in jobs]
        memory = int(fleets.SHARE * memory_limit.installed())
        placed = fleets.place(configs, processes, memory, self.replicas)
        units: dict[object, list[SweepJob]] = {}
        for job, place in zip(jobs, placed, strict=True):
            alone = place.fleet is None
            units.setdefault(f"job {job.number}" if alone else place.fleet, []).append(job)
        return sorted(units.values(), key=len, reverse=True)

    def started(self, jobs: list[SweepJob], slot: int) -> Running:
        """Start the process of a fleet, or of one job."""
        if len(jobs) == 1:
            return super().started(jobs, slot)
        context = multiprocessing.get_context("forkserver")
        told, tells = context.Pipe(duplex=False)
        steps = context.RawValue("Q", 0)
        composed = [(job, self.configs[job.number]) for job in jobs]
        args = self.shared, composed, self.time_limit, self.grace, steps, tells
        process = self.forked(worker.work, args, jobs)
        tells.close()
        return RunningFleet(jobs, process, slot, time.monotonic(), told=told, steps=steps)

    def listen(self) -> None:
        """Conclude the jobs that fleets have told of."""
        for running in self.running:
            if isinstance(running, RunningFleet):
                self._hear(running)

    def _hear(self, running: RunningFleet) -> None:
        try:
            while running.told is not None and running.told.poll():
                number, code, seconds, over = running.told.recv()
                if number == worker.SAVED:
                    self._tell_saved(code, seconds)
                    continue
                if code > 128 and running.asked.startswith(outcome.TIME_LIMIT) and not over:
                    continue  # another one hangs; this one has saved, and goes on alone
                (job,) = [job for job in running.jobs if job.number == number]
                running.jobs.remove(job)
                limit = f"{outcome.TIME_LIMIT} of {self.time_limit:g} s" if over else ""
                self.conclude(job, outcome.exit_reason(code), running.asked or limit, seconds)
        except EOFError:
            running.told = None

    def _tell_saved(self, alone: float, together: float) -> None:
        each = f"a step took {together * 1e3:.2f} ms a job, validation and logs included"
        once = f"by itself one takes {alone * 1e3:.2f} ms without them"
        streams.progress("")
        print(f"fleet: {each}; {once}: {alone / together:.1f} times as fast", flush=True)

    def is_over(self, running: Running, now: float) -> bool:
        """Whether a job is at work for longer than it may; of a fleet, without any other."""
        if not isinstance(running, RunningFleet):
            return super().is_over(running, now)
        if running.steps.value != running.counted:
            running.counted, running.counted_at = running.steps.value, now
        return self.time_limit is not None and now - running.counted_at > self.time_limit

    def concludes(self, running: Running, code: int) -> None:
        """Have the jobs of a fleet that died go on alone."""
        if not isinstance(running, RunningFleet):
            super().concludes(running, code)
            return
        self._hear(running)
        stopped = running.asked and not running.asked.startswith(outcome.TIME_LIMIT)
        if stopped or not running.jobs:
            super().concludes(running, code)
            return
        ended, left = running.asked or outcome.exit_reason(code), len(running.jobs)
        print(f"fleet: {ended}; {left} jobs go on, each in its own process", flush=True)
        self.again |= {job.number for job in running.jobs}
        self.waiting.extendleft([job] for job in reversed(running.jobs))
