"""train/loss: the mean over all elements that counted since it was last written."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from bptt_lab.callbacks.writers import write_scalars


class TrainingLoss(Callback):
    """Gather every batch's sum and count; write their ratio once a logging window.

    Args:
        every_n_steps: optimizer steps in a window; what is left at an epoch's end is written too.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._sum: Any = 0.0
        self._count: Any = 0
        self._written = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch; write when the window is full."""
        self._sum = self._sum + outputs["sum"]
        self._count = self._count + outputs["count"]
        if trainer.global_step - self._written >= self.every_n_steps:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the last, shorter window holds."""
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        total = float(trainer.strategy.reduce(self._sum, reduce_op="sum")) if self._count else 0.0
        if count := float(trainer.strategy.reduce(self._count, reduce_op="sum")):
            write_scalars(trainer, {"train/loss": total / count}, trainer.global_step)
        self._sum, self._count, self._written = 0.0, 0, trainer.global_step
