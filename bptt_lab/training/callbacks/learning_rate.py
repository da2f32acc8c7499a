"""`lr`, where a schedule changes it; and what validation tells the schedule."""

from typing import Any

from lightning.pytorch import Trainer

from bptt_lab.training.callbacks.writers import Periodic, State, write_scalars
from bptt_lab.training.module import SequenceModule
from bptt_lab.training.schedules import Responsive, Schedule


class LearningRate(Periodic):
    """Write the rate of every so many optimizer steps, if it is another one than was written last.

    Args:
        schedule: of the run; hears of validation if it follows a metric.
        every_n_steps: optimizer steps between two looks.
    """

    def __init__(self, schedule: Schedule, *, every_n_steps: int) -> None:
        super().__init__(every_n_steps=every_n_steps)
        self._schedule = schedule
        self._written: float | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Write the rate that the step was made with."""
        step, rate = trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]
        if self.is_due(step):
            self.measured(step)
            if rate != self._written:
                write_scalars(trainer, {"lr": rate}, step)
            self._written = rate

    idle_steps = Periodic.idle_steps  # it speaks for the hook above

    def on_validation_end(self, trainer: Trainer, pl_module: SequenceModule) -> None:
        """Tell the schedule what it follows."""
        if isinstance(self._schedule, Responsive):
            value = pl_module.metrics[self._schedule.metric]
            self._schedule.observe(value, trainer.global_step)

    def state_dict(self) -> State:
        """Return its rhythm, and what the schedule has seen."""
        seen = self._schedule.state_dict() if isinstance(self._schedule, Responsive) else None
        return super().state_dict() | {"written": self._written, "schedule": seen}

    def load_state_dict(self, state_dict: State) -> None:
        """Go on from these."""
        super().load_state_dict(state_dict)
        self._written = state_dict["written"]
        if isinstance(self._schedule, Responsive):
            self._schedule.load_state_dict(state_dict["schedule"])
