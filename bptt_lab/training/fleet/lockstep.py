"""Several runs in one process: each goes its own way up to its next step, where all of them meet.

A run is a greenlet, a stack of calls that stops in the middle and goes on later. It does what it
does by itself: Lightning sets it up, validates and tests it, its callbacks write its folder, its
checkpoints are its own. Only where it wants a gradient, or an optimizer step, it waits for the
others, so that what all of them want is computed at once.

One run is at work at a time. What a process has once, such as stdout, is that run's for as long.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from signal import Signals
from typing import Any, Protocol, TextIO

import torch
from greenlet import GreenletExit, greenlet

from bptt_lab.runs import signals
from bptt_lab.runs.outcome import Interrupted
from bptt_lab.runs.signals import Stop
from bptt_lab.training.random_state import random_state, restore_random

LONGEST = 1.0  # seconds until each run is asked again whether it has to save or stop
HERE: ContextVar["Replica | None"] = ContextVar("replica", default=None)  # the run that asks


class Computes(Protocol):
    """What computes for all that wait; see `bptt_lab.training.fleet.together`."""

    def __call__(self, waiting: "Sequence[Replica]", goes_on: Callable[[], bool]) -> None:
        """Do what each of them has asked for, or leave its `answer` None: it does it itself.

        Before each step after the first one `goes_on` says whether there may be another.
        """


class ReplicaStop(Stop):
    """Whether a signal asked the whole process to stop, as one of its runs sees it."""

    def __init__(self, process: Stop) -> None:
        self.process = process
        self.over = False  # whether this run has used up its own time
        super().__init__()

    @property
    def asked(self) -> Signals | None:
        """The signal; SIGTERM for a run whose time is over."""
        return Signals.SIGTERM if self.over else self.process.asked

    @asked.setter
    def asked(self, number: Signals | None) -> None:
        pass

    def install(self) -> None:
        """Take the signals over for all runs, from whoever has them now."""
        self.process.install()


class Replica:
    """One run among others.

    Args:
        work: does all of it, and returns where it is over.
        log: gets what the run prints.
        stop: of the process.
        draws: whether the run may draw from global generators at any step.
    """

    def __init__(
        self, work: Callable[[], None], log: TextIO, stop: Stop, *, draws: bool = True
    ) -> None:
        self.work, self.log, self.draws = work, log, draws
        self.stop = ReplicaStop(stop)
        self.wants: Any = None  # what it waits for
        self.answer: Any = None
        self.seconds = 0.0  # that were spent on it
        self.alone = 0  # steps that it is to take by itself, to see what they cost
        self.times: list[float] = []  # seconds that these took
        self._since: float | None = None  # when it went on, while it is at work
        self.stop.clock = self.clock
        self.random: Any = None  # its generators' states, while another run has them
        self.take_generators: Callable[[], None] = lambda: None
        self._handlers: list[logging.Handler] = list(logging.root.handlers)
        self._grad = True  # whether it is where gradients are recorded
        self._greenlet = greenlet(self._run)

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return bool(self._greenlet.dead)

    def ask(self, wants: Any) -> Any:
        """Wait until all other runs want something too; return what was computed, if it was."""
        self.wants, self.answer = wants, None
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()
        self.wants = None
        return self.answer

    def go_on(self, error: BaseException | None = None) -> None:
        """Have it work up to the next thing that it wants, with an error where it stands."""
        self._since = time.perf_counter()
        before = sys.stdout, sys.stderr, logging.root.handlers
        sys.stdout = sys.stderr = self.log
        logging.root.handlers = self._handlers
        torch.set_grad_enabled(self._grad)
        try:
            if error is None:
                self._greenlet.switch()
            else:
                self._greenlet.throw(error)
        finally:
            self._grad = torch.is_grad_enabled()
            torch.set_grad_enabled(True)
            self._handlers = logging.root.handlers
            sys.stdout, sys.stderr, logging.root.handlers = before
            self.seconds, self._since = self.clock(), None

    def clock(self) -> float:
        """Return the seconds that were spent on it so far."""
        now = time.perf_counter()
        return self.seconds + (0.0 if self._since is None else now - self._since)

    def took_alone(self, seconds: float) -> None:
        """Note what a step by itself took."""
        if self.alone:
            self.alone -= 1
            self.times.append(seconds)

    def _run(self) -> None:
        HERE.set(self)
        signals.GIVEN.set(self.stop)
        with suppress(GreenletExit):
            self.work()


class Lockstep:
    """Runs replicas until all are over.

    Args:
        replicas: what to run.
        compute: does for all of them at once what they wait for.
        stop: whether a signal has asked the process to stop.
        ended: is told of each that is over.
        watch: is told of each before it works, None before all of them are computed for.
        limit: seconds that one may take.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        compute: Computes,
        stop: Stop,
        ended: Callable[[Replica], None],
        watch: Callable[[Replica | None], None],
        limit: float | None = None,
    ) -> None:
        self.left = list(replicas)
        self.compute, self.stop, self.ended, self.watch = compute, stop, ended, watch
        self.limit = limit
        self._owner: Replica | None = None  # of the global generators
        for replica in replicas:
            replica.take_generators = partial(self._lend_generators, replica)

    def run(self) -> None:
        """Run all of them.

        Raises:
            Interrupted: at a second signal, once each has ended at that.
        """
        killed: Interrupted | None = None
        while self.left:
            for replica in list(self.left):
                try:
                    self._go_on(replica, killed)
                except Interrupted as error:  # a second signal, outside of all runs
                    killed = error
            killed = killed or self._killed()
            if self.left and killed is None:
                try:
                    self._compute()
                except Interrupted as error:
                    killed = error
        if killed is not None:
            raise killed

    def _compute(self) -> None:
        """Do what all wait for, and share out the time that it takes."""
        began = time.perf_counter()

        def goes_on() -> bool:
            self.watch(None)
            return self.stop.asked is None and time.perf_counter() - began < LONGEST

        goes_on()
        self.compute(self.left, goes_on)
        share = (time.perf_counter() - began) / len(self.left)
        for replica in self.left:
            replica.seconds += share

    def _killed(self) -> Interrupted | None:
        """A second signal is told to one run only: where it came."""
        asked = self.stop.asked
        return Interrupted(asked) if asked is not None and not self.stop.patient else None

    def _go_on(self, replica: Replica, killed: BaseException | None) -> None:
        self.watch(replica)
        if replica.draws or replica.wants is None:
            replica.take_generators()
        over = self.limit is not None and replica.seconds > self.limit
        replica.stop.over = replica.stop.over or over
        try:
            replica.go_on(killed)
        finally:
            if replica.ended:
                self.left.remove(replica)
                self.ended(replica)

    def _lend_generators(self, replica: Replica) -> None:
        """Give the global generators to a run, in the states in which it left them."""
        if self._owner is replica:
            return
        if self._owner is not None:
            self._owner.random = random_state()
        self._owner = replica
        if replica.random is not None:
            restore_random(replica.random)
