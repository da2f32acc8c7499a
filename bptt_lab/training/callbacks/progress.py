"""A progress bar that shows the loss, fetched when the bar is drawn and not at every step."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from bptt_lab.training.module import SequenceModule


class Progress(TQDMProgressBar):
    """Lightning's bar with the latest batch's mean loss, and no version number."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)

    def init_validation_tqdm(self) -> Tqdm:
        """Show no second bar for the moment that validation takes, nor one for the test."""
        return Tqdm(disable=True)

    init_test_tqdm = init_validation_tqdm

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands at the right end of the bar."""
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        if isinstance(pl_module, SequenceModule) and pl_module.latest_count:
            items["loss"] = f"{float(pl_module.latest_sum) / pl_module.latest_count:.4f}"
        return items
