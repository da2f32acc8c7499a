"""A fresh process for each job, forked from a server that has torch and Lightning loaded.

A job starts with nothing that another one left, and dies without harming another. A fork takes
milliseconds, where to import everything again takes seconds.
"""

import os
import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from typing import Annotated

from omegaconf import DictConfig

from bptt_lab.config import gpus
from bptt_lab.core.machine import cores
from bptt_lab.core.validation import Ge, Gt, checked
from bptt_lab.runs import lock, outcome, signals, streams
from bptt_lab.training import fork_server
from bptt_lab.training.launchers import worker
from bptt_lab.training.launchers.base import POLL, SweepLauncher
from bptt_lab.training.launchers.worker import SweepJob


@dataclass
class Running:
    """A process at work."""

    jobs: list[SweepJob]  # those of it that have not ended; one, unless it is a fleet's
    process: ForkServerProcess
    slot: int
    began: float
    asked: str = ""  # why it was asked to stop
    killed_at: float = float("inf")  # when it is to be killed


class ProcessLauncher(SweepLauncher):
    """Runs jobs side by side on this machine: starts, watches, asks to stop and if need be kills.

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
        self.running: list[Running] = []
        self.waiting: deque[list[SweepJob]] = deque()  # jobs, by the process that they share
        self.again: set[int] = set()  # jobs that go on from what an earlier process left
        self._serving = False

    def run(self, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        """Run jobs until all have ended.

        Raises:
            Interrupted: at a second signal; the jobs are killed then.
        """
        device = self.sweep.config.device
        self.pins = visible_gpus() if device.accelerator != "cpu" and device.devices == 1 else []
        n_jobs = min(self.n_jobs or max(1, cores() // self._threads(jobs)), len(jobs))
        self.free = list(range(n_jobs))
        if not self._serving:  # the server does, from which every job is forked
            streams.loading("torch")
            fork_server.load()  # while jobs are composed and shared out
        self._serving = True
        self.shared = pickle.dumps(self.sweep)  # once, not once a job
        self.waiting.extend(self.shared_out(jobs, n_jobs))
        try:
            while self.running or (self.waiting and not self.halted(stop)):
                while self.waiting and self.free and not self.halted(stop):
                    self.running.append(self.started(self.waiting.popleft(), self.free.pop(0)))
                    self.standing.starts()
                    for job in self.running[-1].jobs:
                        self.say(job, "starts")
                wait([running.process.sentinel for running in self.running], POLL)
                self.listen()
                for running in [r for r in self.running if r.process.exitcode is not None]:
                    self._end(running)
                self._stop_those_over_time(self.halted(stop))
                self.sign_of_life()
        finally:
            for running in list(self.running):
                _kill(running.process)
                running.process.join()
                running.asked = running.asked or self.halted(stop) or "its launcher failed"
                self._end(running)

    def _threads(self, jobs: Sequence[SweepJob]) -> int:
        """The most threads that any of the jobs takes."""
        config = self.sweep.config
        pairs = [line.partition("=") for job in jobs for line in job.overrides]
        swept = [int(value) for key, _, value in pairs if key == "num_threads"]
        return max(int(config.num_threads), int(config.device.devices), *swept)

    def shared_out(self, jobs: Sequence[SweepJob], processes: int) -> Sequence[list[SweepJob]]:
        """Return the jobs of every process to start: here, one each."""
        return [[job] for job in jobs]

    def started(self, jobs: list[SweepJob], slot: int) -> Running:
        """Start the process of some jobs: here, of one."""
        (job,) = jobs
        pin = self.pins[slot % len(self.pins)] if self.pins else None
        args = self.shared, job, self.composed(job), pin, self.grace, job.number in self.again
        return Running(jobs, self.forked(_work, args, jobs), slot, time.monotonic())

    def forked(
        self, target: Callable[..., None], args: tuple[object, ...], jobs: Sequence[SweepJob]
    ) -> ForkServerProcess:
        """Start target(*args) in a process for some jobs."""
        for job in jobs:
            self.marks[job.number] = outcome.mark(job.folder)
        try:
            return fork_server.start(target, args)
        except (OSError, EOFError):  # the server has just died; there will be another
            time.sleep(POLL)
            return fork_server.start(target, args)

    def listen(self) -> None:
        """Take notice of what processes tell before they end: here, nothing."""

    def is_over(self, running: Running, now: float) -> bool:
        """Whether a process has taken longer than it may."""
        return self.time_limit is not None and now - running.began > self.time_limit

    def _end(self, running: Running) -> None:
        self.running.remove(running)
        self.free.append(running.slot)
        # What it started and left behind; one that is killed writes until it is gone.
        while _kill(running.process) and any(lock.holder(job.folder) for job in running.jobs):
            time.sleep(POLL / 10)
        code = running.process.exitcode
        assert code is not None
        running.process.close()
        self.concludes(running, code)

    def concludes(self, running: Running, code: int) -> None:
        """Say how the jobs of a process stand that has ended with a code."""
        seconds = time.monotonic() - running.began
        for job in running.jobs:
            self.conclude(job, outcome.exit_reason(code), running.asked, seconds)

    def _stop_those_over_time(self, halted: str) -> None:
        """Ask jobs to stop whose time is over, or all where `halted` says why; kill in the end."""
        now = time.monotonic()
        for running in self.running:
            if not running.asked:
                over = self.is_over(running, now)
                reason = f"{outcome.TIME_LIMIT} of {self.time_limit:g} s" if over else halted
                if reason:
                    running.asked = reason
                    running.killed_at = now + self.grace
                    assert running.process.pid is not None
                    with suppress(ProcessLookupError):
                        os.kill(running.process.pid, signal.SIGTERM)
            elif now > running.killed_at:
                _kill(running.process)


def visible_gpus() -> list[str]:
    """The GPUs that a process sees, as CUDA_VISIBLE_DEVICES would name them one by one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    found = gpus.count()
    return named.split(",")[:found] if named else [str(number) for number in range(found)]


def _kill(process: ForkServerProcess) -> bool:
    """Kill a job's process and all that it started; whether any of them was still there."""
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _work(
    shared: bytes, job: SweepJob, config: DictConfig, pin: str | None, grace: float, resume: bool
) -> None:
    """Run a job in its own process, which ends with it, though it left a thread behind."""
    os.setsid()
    fork_server.begin(grace)
    if pin is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = pin
    code = outcome.FAILED
    try:
        worker.work(pickle.loads(shared), job, config, resume=resume)
        code = outcome.COMPLETED
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else code
    except BaseException as error:
        outcome.report(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a full disk
                stream.flush()
        os._exit(code)
