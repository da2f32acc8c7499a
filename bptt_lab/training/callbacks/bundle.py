"""Several callbacks as one, for the price of one.

At every step Lightning enters a profiler's context for each hook of each callback, whether the
callback has that hook or not: about 20 microseconds a callback and step on a 2.6 GHz core, which a
tiny model notices. A bundle calls a hook only where it was written.
"""

from collections.abc import Callable, Sequence
from functools import partial

from lightning.pytorch import Callback, Trainer

from bptt_lab.training.callbacks import stretch
from bptt_lab.training.callbacks.stretch import Stretch
from bptt_lab.training.callbacks.writers import State
from bptt_lab.training.module import SequenceModule


class Bundle(Callback):
    """Callbacks that watch a run, called in order, one of a class; each one `fits`."""

    HOOKS = (
        "on_train_start",
        "on_train_batch_start",
        "on_before_optimizer_step",
        "on_train_batch_end",
        "on_train_epoch_end",
        "on_validation_end",
        "on_train_end",
        "on_fit_end",
    )

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)
        for hook in self.HOOKS:
            own = [getattr(callback, hook) for callback in callbacks if _has(callback, hook)]
            setattr(self, hook, partial(_call, own))
        self._noting = stretch.noting(self.callbacks)

    @classmethod
    def fits(cls, callback: Callback) -> bool:
        """Whether a bundle forwards every hook that a callback has."""
        known = {*cls.HOOKS, "state_dict", "load_state_dict"}
        hooks = [hook for hook in vars(Callback) if hook not in known and hook[0] != "_"]
        return not any(callable(getattr(Callback, h)) and _has(callback, h) for h in hooks)

    def idle_steps(self, trainer: Trainer) -> int:
        """Return how many of the next steps all of them would only take note of."""
        return stretch.idle_steps(self._noting, trainer)

    def catch_up(self, trainer: Trainer, pl_module: SequenceModule, passed: Stretch) -> None:
        """Have each take note."""
        for callback in self._noting or ():
            callback.catch_up(trainer, pl_module, passed)

    def states(self) -> State:
        """Return every callback's state_dict by the name of its class.

        Not called state_dict: Lightning saves that of one process, these belong to each.
        """
        return {type(callback).__name__: callback.state_dict() for callback in self.callbacks}

    def restore(self, states: State) -> None:
        """Hand every callback what `states` took from it."""
        for callback in self.callbacks:
            if type(callback).__name__ in states:
                callback.load_state_dict(states[type(callback).__name__])


def _call(methods: Sequence[Callable[..., None]], *args: object) -> None:
    for method in methods:
        method(*args)


def _has(callback: Callback, hook: str) -> bool:
    return getattr(type(callback), hook) is not getattr(Callback, hook)
