"""Processes that start in milliseconds: forked from a server with torch and Lightning loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from typing import Any

from bptt_lab.runs import signals

PRELOAD = "bptt_lab.training.launchers.preload"
SAFE_PATH = "PYTHONSAFEPATH"


def process(target: Callable[..., Any], args: tuple[Any, ...]) -> ForkServerProcess:
    """Make a process that will run target(*args); it starts with signals blocked.

    Args:
        target: an importable function; it calls `unblock` once it is ready for signals.
        args: its arguments, picklable.
    """
    return multiprocessing.get_context("forkserver").Process(target=target, args=args)


def ensure() -> None:
    """Start the server, unless it runs.

    Signals to all processes of the terminal are for this process, so the server has them blocked.
    It looks for no modules in the folder where the user happens to be.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOAD])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ASKING)
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        resource_tracker.ensure_running()  # where it has to start, it unblocks some of them
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.ASKING)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


def unblock() -> None:
    """Receive signals from here on, in a process that the server forked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ASKING)
