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

    A class that writes such a hook says `idle_steps` itself: what it inherits knows no more hooks.
    """
    found: list[Any] = []
    for callback in callbacks:
        kinds = type(callback).__mro__[: -len(Callback.__mro__)]
        hooked = [n for n, kind in enumerate(kinds) if any(hook in vars(kind) for hook in HOOKS)]
        hooked += [0 for hook in HOOKS if hook in vars(callback)]
        said = [n for n, kind in enumerate(kinds) if "idle_steps" in vars(kind)]
        if hooked and (not said or min(said) > min(hooked)):
            return None
        found += [callback] if hooked else []
    return found


def idle_steps(callbacks: Iterable[Notes] | None, trainer: Trainer) -> int:
    """Return how many of the next steps all of them would only take note of."""
    if callbacks is None:
        return 0
    return min((callback.idle_steps(trainer) for callback in callbacks), default=ANY)
