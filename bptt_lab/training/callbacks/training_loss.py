"""train/loss: the mean over all elements that counted since it was last written."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from bptt_lab.training.callbacks.stretch import Stretch
from bptt_lab.training.callbacks.writers import State, write_scalars
from bptt_lab.training.module import SequenceModule


class TrainingLoss(Callback):
    """Gather every batch's sum and count; write their ratio once a logging window.

    A window is of `every_n_steps` optimizer steps; what is left at an epoch's end is written too.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._sums: list[Tensor] = []
        self._count = 0
        self._written = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Add the batch; write when the window is full."""
        self._sums.append(pl_module.latest_sum)
        self._count += pl_module.latest_count
        if trainer.global_step - self._written >= self.every_n_steps:
            self._write(trainer)

    def idle_steps(self, trainer: Trainer) -> int:
        """Return how many of the next steps leave the window unfilled."""
        return max(0, self.every_n_steps - (trainer.global_step - self._written) - 1)

    def catch_up(self, trainer: Trainer, pl_module: SequenceModule, stretch: Stretch) -> None:
        """Add the batches of several steps."""
        self._sums += stretch.sums
        self._count += sum(stretch.counts)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Write what the last, shorter window holds."""
        self._write(trainer)

    def state_dict(self) -> State:
        """Return the window so far."""
        sums = torch.stack(self._sums) if self._sums else torch.zeros(0)
        return {"sums": sums, "count": self._count, "written": self._written}

    def load_state_dict(self, state_dict: State) -> None:
        """Go on with a window."""
        self._sums = list(state_dict["sums"].unbind())
        self._count, self._written = state_dict["count"], state_dict["written"]

    def _write(self, trainer: Trainer) -> None:
        if self._sums:
            total = torch.stack(self._sums).sum().double()
            both = torch.stack([total, total.new_tensor(self._count)])
            total, count = trainer.strategy.reduce(both, reduce_op="sum").tolist()
            if count:
                write_scalars(trainer, {"train/loss": total / count}, trainer.global_step)
        self._sums, self._count, self._written = [], 0, trainer.global_step
