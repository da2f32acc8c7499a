"""Where a callback's numbers go: every logger for scalars, TensorBoard's writer for pictures."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter


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
