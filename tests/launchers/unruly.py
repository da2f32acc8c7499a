"""An optimizer that misbehaves in every way that a job of a sweep can."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def _raise() -> None:
    raise ValueError("meant to fail")


def _spin() -> None:
    print("hangs")
    while True:
        time.sleep(1e-3)


def _stubborn() -> None:
    signal.signal(signal.SIGTERM, lambda *_: print("was asked to stop"))
    print("hangs")
    while True:
        time.sleep(10_000)


def _exit_zero() -> None:
    os._exit(0)


def _exit_seven() -> None:
    os._exit(7)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep() -> None:
    print("hangs")
    time.sleep(10_000)


def _show_gpu() -> None:
    print("sees", os.environ["CUDA_VISIBLE_DEVICES"])


def _leave_a_thread() -> None:
    threading.Thread(target=threading.Event().wait).start()


def _press_ctrl_c() -> None:
    raise KeyboardInterrupt


WAYS: dict[str, Callable[[], None]] = {
    "raise": _raise,
    "exit_zero": _exit_zero,
    "exit_seven": _exit_seven,
    "kill": _kill,
    "sleep": _sleep,
    "spin": _spin,
    "stubborn": _stubborn,
    "show_gpu": _show_gpu,
    "leave_a_thread": _leave_a_thread,
    "press_ctrl_c": _press_ctrl_c,
}
# What the job of that number in a sweep of 40 does; the others behave.
FATES = {
    1: "raise", 4: "exit_zero", 6: "kill", 9: "raise", 12: "sleep", 15: "diverge", 19: "raise",
    22: "exit_seven", 26: "kill", 31: "spin", 34: "diverge", 38: "raise",
}  # fmt: skip


class Unruly(torch.optim.SGD):
    """SGD that misbehaves in its third step.

    Args:
        params: as torch.optim.SGD.
        lr: as torch.optim.SGD.
        how: a key of WAYS, or "well", "diverge", "slow", "slower"; or a job's number in FATES.
        gate: a file; it misbehaves only while that exists.
    """

    def __init__(
        self, params: Any, lr: float = 0.01, how: str | int = "well", gate: str | None = None
    ) -> None:
        super().__init__(params, lr=lr)
        self.how = FATES.get(how, "well") if isinstance(how, int) else how
        self.gate = gate
        self.steps = 0

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.steps += 1
        if self.gate is not None and not Path(self.gate).exists():
            return loss
        if self.how in ("slow", "slower"):
            time.sleep({"slow": 0.05, "slower": 1}[self.how])
        elif self.how == "diverge" and self.steps == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("nan"))
        elif self.how in WAYS and self.steps == 3:
            WAYS[self.how]()
        return loss
