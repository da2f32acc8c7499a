"""No process outlives the one that started it, even where that was killed by kill -9.

A process that multiprocessing starts holds one end of a pipe whose other end its parent holds; the
kernel closes that one whatever the parent dies of.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait


def watch(grace: float) -> None:
    """Have this process stop once its parent is gone.

    It is asked by SIGTERM, so that it may save where it stands. What has not ended `grace` seconds
    later is killed, and with it, where it leads a process group, the whole group.

    Args:
        grace: seconds.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel, grace), daemon=True).start()


def _follow(sentinel: int, grace: float) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
