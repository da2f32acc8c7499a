"""What a gradient strategy tells of itself: adaptive its k, credit_clip how often it clips."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from bptt_lab.training.callbacks.writers import Periodic, write_scalars
from bptt_lab.training.module import SequenceModule


class StrategyReadings(Periodic):
    """Write `gradient/<name>` for each of the strategy's readings, once a logging window."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, if it is time."""
        assert isinstance(pl_module, SequenceModule)
        if not self.is_due(trainer):
            return
        self.measured(trainer)
        assert pl_module.carry is not None
        readings = pl_module.rnn.gradient.readings(pl_module.carry)
        if readings:
            scalars = {f"gradient/{name}": value for name, value in readings.items()}
            write_scalars(trainer, scalars, trainer.global_step)
