"""What a gradient strategy tells of itself: adaptive its k, credit_clip how often it clips."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from bptt_lab.training.callbacks.writers import write_scalars
from bptt_lab.training.module import SequenceModule


class StrategyReadings(Callback):
    """Write `gradient/<name>` for each of the strategy's readings, once a logging window.

    Args:
        every_n_steps: optimizer steps in a window.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._next = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, if it is time."""
        assert isinstance(pl_module, SequenceModule)
        if trainer.global_step < self._next:
            return
        self._next = trainer.global_step + self.every_n_steps
        assert pl_module.carry is not None
        readings = pl_module.rnn.gradient.readings(pl_module.carry)
        if readings:
            scalars = {f"gradient/{name}": value for name, value in readings.items()}
            write_scalars(trainer, scalars, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return when the next reading is due."""
        return {"next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep to the rhythm of the run so far."""
        self._next = state_dict["next"]
