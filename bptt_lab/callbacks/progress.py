"""A progress bar that shows the loss, fetched when the bar is drawn and not at every step."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class Progress(TQDMProgressBar):
    """Lightning's bar with the latest batch's mean loss, and no version number."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)
        self._outputs: Any = None

    def init_validation_tqdm(self) -> Tqdm:
        """Show no second bar for the moment that validation takes."""
        return Tqdm(disable=True)

    def init_test_tqdm(self) -> Tqdm:
        """Show no bar for the test either."""
        return Tqdm(disable=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch's sum and count."""
        self._outputs = outputs
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands at the right end of the bar."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        if self._outputs is not None and (count := float(self._outputs["count"])):
            items["loss"] = f"{float(self._outputs['sum']) / count:.4f}"
        return items
