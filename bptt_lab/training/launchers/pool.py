"""Job processes side by side: started, watched, asked to stop, and if need be killed."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from bptt_lab.runs import outcome, signals
from bptt_lab.training import fork_server, orphans
from bptt_lab.training.launchers import worker
from bptt_lab.training.launchers.base import POLL, SweepLauncher
from bptt_lab.training.launchers.worker import SweepJob


@dataclass
class Running:
    """A job at work."""

    job: SweepJob
    process: ForkServerProcess
    slot: int
    before: outcome.Mark
    began: float
    asked: str = ""  # why it was asked to stop
    killed_at: float = float("inf")  # when it is to be killed


class Pool:
    """Keeps a number of jobs running until there are no more.

    Args:
        launcher: whose jobs they are.
        n_jobs: how many at a time.
        pins: what CUDA_VISIBLE_DEVICES becomes for the jobs, in turn; none for as it is.
        time_limit: seconds that a job may take.
        grace: seconds between asking a job to stop and killing it.
    """

    def __init__(
        self,
        launcher: SweepLauncher,
        n_jobs: int,
        pins: Sequence[str],
        time_limit: float | None,
        grace: float,
    ) -> None:
        self.launcher = launcher
        self.pins = pins
        self.time_limit = time_limit
        self.grace = grace
        self.free = list(range(n_jobs))
        self.running: list[Running] = []
        self.shared = pickle.dumps(launcher.sweep)  # once, not once a job

    def run(self, jobs: Sequence[SweepJob], stop: signals.Stop) -> None:
        """Run jobs until all have ended.

        Raises:
            Interrupted: at a second signal; the jobs are killed then.
        """
        waiting = deque(jobs)
        try:
            while self.running or (waiting and not self.launcher.halted(stop)):
                while waiting and self.free and not self.launcher.halted(stop):
                    self._start(waiting.popleft())
                wait([running.process.sentinel for running in self.running], POLL)
                for running in [r for r in self.running if r.process.exitcode is not None]:
                    self._end(running)
                self._look_at_clocks(self.launcher.halted(stop))
        finally:
            for running in list(self.running):
                _kill(running.process)
                running.process.join()
                running.asked = running.asked or self.launcher.halted(stop) or "its launcher failed"
                self._end(running)

    def _start(self, job: SweepJob) -> None:
        slot = self.free.pop(0)
        pin = self.pins[slot % len(self.pins)] if self.pins else None
        before = outcome.mark(job.folder)
        arguments = (self.shared, job, pin, self.grace)
        try:
            process = _fork(arguments)
        except (OSError, EOFError):  # the server has just died; there will be another
            time.sleep(POLL)
            process = _fork(arguments)
        self.launcher.say_start(job)
        self.running.append(Running(job, process, slot, before, time.monotonic()))

    def _end(self, running: Running) -> None:
        self.running.remove(running)
        self.free.append(running.slot)
        _kill(running.process)  # what it started and left behind
        code = running.process.exitcode
        assert code is not None
        ended = outcome.exit_reason(code)
        run = outcome.conclude_process(running.job.folder, running.before, ended, running.asked)
        running.process.close()
        self.launcher.say_end(running.job, run, time.monotonic() - running.began)

    def _look_at_clocks(self, halted: str) -> None:
        now = time.monotonic()
        for running in self.running:
            if not running.asked:
                over = self.time_limit is not None and now - running.began > self.time_limit
                reason = f"{outcome.TIME_LIMIT} of {self.time_limit:g} s" if over else halted
                if reason:
                    running.asked = reason
                    running.killed_at = now + self.grace
                    assert running.process.pid is not None
                    with suppress(ProcessLookupError):
                        os.kill(running.process.pid, signal.SIGTERM)
            elif now > running.killed_at:
                _kill(running.process)


def _fork(arguments: tuple[Any, ...]) -> ForkServerProcess:
    """Start a process of a job."""
    process = fork_server.process(_work, arguments)
    fork_server.ensure()
    process.start()
    return process


def _kill(process: ForkServerProcess) -> None:
    """Kill a job and all that it started."""
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _work(shared: bytes, job: SweepJob, pin: str | None, grace: float) -> None:
    """Run a job, in its own process."""
    os.setsid()
    orphans.watch(grace)
    fork_server.unblock()
    if pin is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = pin
    worker.work(pickle.loads(shared), job)
