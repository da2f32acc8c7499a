"""Signals that ask a run to stop: they wait until it has saved where it stands.

Torch-free and early: a signal while torch is being imported is already answered.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from bptt_lab.runs.outcome import Interrupted

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Stop:
    """Whether a signal has asked the run to stop.

    While `patient`, the first signal is only noted, for whoever looks at `asked` between two steps;
    otherwise, and at the second signal, `Interrupted` is raised where the program happens to be.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.patient = False
        self.pass_on: Callable[[int], None] | None = None  # to processes that do the work
        self.clock: Callable[[], float] | None = None  # of a run that shares its process

    def install(self) -> None:
        """Take over the signals, but for those that whoever started us had us ignore (nohup)."""
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = self.asked is None, signal.Signals(number)
        if self.pass_on is not None:
            self.pass_on(number)
        if not (self.patient and first):
            self.patient = False
            raise Interrupted(number)


GIVEN: ContextVar[Stop | None] = ContextVar("stop", default=None)  # to a run among others


@contextmanager
def caught() -> Iterator[Stop]:
    """Install a Stop for as long as a run takes; a run among others is given one."""
    if given := GIVEN.get():
        yield given
        return
    before = {number: signal.getsignal(number) for number in ASKING}
    stop = Stop()
    stop.install()
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
