"""When a callback writes, and where: scalars to every logger, pictures to TensorBoard's writer."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

State = dict[str, Any]  # plain containers and tensors, as checkpoints hold


class Periodic(Callback):
    """A callback that measures every so many optimizer steps, in step over a resumed run."""

    def __init__(self, *, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._next = 1

    def is_due(self, step: int) -> bool:
        """Whether it is time to measure; steps count from 1, the first one that is made."""
        return step >= self._next

    def measured(self, step: int) -> None:
        """Be due again at the next multiple of `every_n_steps`."""
        self._next = (step // self.every_n_steps + 1) * self.every_n_steps

    def idle_steps(self, trainer: Trainer) -> int:
        """Return how many of the next steps come before it measures again."""
        return max(0, self._next - trainer.global_step - 1)

    def catch_up(self, *_: Any) -> None:
        """Of a step at which it does not measure it keeps nothing."""

    def state_dict(self) -> State:
        """Return when the next measurement is due."""
        return {"next": self._next}

    def load_state_dict(self, state_dict: State) -> None:
        """Keep to the rhythm of the run so far."""
        self._next = state_dict["next"]


def write_scalars(trainer: Trainer, scalars: Mapping[str, float], step: int) -> None:
    """Write scalars to every logger of the run, past `self.log` and its cost a key."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(scalars), step)


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    """Return TensorBoard's writer on the process that writes, else None."""
    if not trainer.is_global_zero:
        return None
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            writer: SummaryWriter = logger.experiment
            return writer
    return None
