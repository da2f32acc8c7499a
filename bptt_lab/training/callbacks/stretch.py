"""Steps in a row that a callback need not hear of one by one: it takes note of all afterwards.

A fleet takes such steps without going from one run to the next in between, and that is most of what
a small network's step costs. A callback that has a hook of a step says with `idle_steps` how many
of the next ones it would only take note of; one that does not say is told of each as it is made.
"""

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from bptt_lab.training.module import SequenceModule

HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end")
RHYTHM = (*HOOKS, "is_due")  # what a class that says `idle_steps` has to know
ANY = sys.maxsize  # of idle steps: as many as there are


class Stretch(NamedTuple):
    """What was found at each of several steps in a row; each was one batch and one optimizer step.

    The trainer has counted them already. Where nothing counted the optimizer made no step.
    """

    sums: list[Tensor]  # of the losses that count
    counts: list[int]  # of elements that count
    norms: list[Tensor | None]  # of each parameter's gradient, before clipping; None: no step


class Notes(Protocol):
    """A callback that can hear of several steps at once."""

    def idle_steps(self, trainer: Trainer) -> int:
        """Return how many of the next steps its hooks would do nothing at but take note."""

    def catch_up(self, trainer: Trainer, pl_module: SequenceModule, stretch: Stretch) -> None:
        """Take note of them."""


def noting(callbacks: Iterable[Callback]) -> list[Notes] | None:
    """Return those that have a hook of a step; None where one must hear of every step.

    Who says `idle_steps` speaks for the hooks that its own class has, and for no others.
    """
    found: list[Any] = []
    for callback in callbacks:
        hooks = [_writer(callback, name) for name in HOOKS]
        if not any(hooks):
            continue
        speaks = _writer(callback, "idle_steps")
        known = (_writer(callback, name) for name in RHYTHM)
        if speaks is None or not all(issubclass(speaks, kind) for kind in known if kind):
            return None
        found.append(callback)
    return found


def _writer(callback: Callback, name: str) -> type | None:
    """The class that wrote a method; None where nobody did but Lightning."""
    if name in vars(callback):
        return type(callback)
    writer = next((kind for kind in type(callback).__mro__ if name in vars(kind)), None)
    return None if writer is Callback else writer


def idle_steps(callbacks: Iterable[Notes] | None, trainer: Trainer) -> int:
    """Return how many of the next steps all of them would only take note of."""
    if callbacks is None:
        return 0
    return min((callback.idle_steps(trainer) for callback in callbacks), default=ANY)
