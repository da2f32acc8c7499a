"""Processes that start in milliseconds: forked from a server with torch and Lightning loaded.

None outlives the one that started it, even where that was killed by kill -9: it holds one end of a
pipe whose other end its parent holds, and the kernel closes that whatever the parent dies of.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from types import ModuleType

from bptt_lab.runs import signals

PRELOAD = "bptt_lab.training.launchers.preload"
SAFE_PATH = "PYTHONSAFEPATH"
_ONE = threading.Lock()  # held by the thread that changes what all threads share


def start(target: Callable[..., None], args: tuple[object, ...]) -> ForkServerProcess:
    """Start a process that runs target(*args), with signals blocked until that calls `begin`.

    The target is an importable function, its arguments can be pickled. The process does not run
    the script again that started this one.
    """
    with _ONE:
        load()
        process = multiprocessing.get_context("forkserver").Process(target=target, args=args)
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            process.start()
        finally:
            sys.modules["__main__"] = main
    return process


def end(process: ForkServerProcess) -> int:
    """Wait for a process and return its exit code."""
    wait([process.sentinel])
    with _ONE:  # whoever starts another one looks for those that have ended
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def load(preload: str = PRELOAD) -> None:
    """Start the server, unless it runs; it loads torch, by a module, while the caller goes on.

    Signals to all processes of the terminal are for this process, so the server has them blocked.
    It looks for no modules in the folder where the user happens to be.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([preload])
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


def begin(grace: float) -> None:
    """Receive signals from here on, and stop this process once its parent is gone.

    It is asked by SIGTERM, so that it may save where it stands. What has not ended `grace` seconds
    later is killed, and with it, where it leads a process group, the whole group.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent.sentinel, grace), daemon=True).start()
    unblock()


def _follow(sentinel: int, grace: float) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
