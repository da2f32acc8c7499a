"""What the strategy that trains does: how much credit reaches each step, and its own readings."""

from typing import Any

import torch
from lightning.pytorch import Trainer

from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.callbacks.writers import Periodic, tensorboard_writer, write_scalars
from bptt_lab.training.histograms import is_kept, log_histogram, write_histograms
from bptt_lab.training.module import SequenceModule


class CreditHistogram(Periodic):
    """Measure the credit dE/dh_t of a batch before it is trained on, once a logging window.

    The histogram `credit_log10/<layer>` holds |dE/dh_t| of every time step and sequence;
    `credit/zero_fraction` is the share of steps that get none at all, `credit/nonfinite_fraction`
    the share that got inf or NaN. The measurement drops no unit and draws no number, so that
    training is the same without it.
    """

    idle_steps = Periodic.idle_steps

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: SequenceModule, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Measure, if it is time and the batch has a loss at all."""
        step = trainer.global_step + 1  # that the batch is for
        if not self.is_due(step):
            return
        writer = tensorboard_writer(trainer)
        if writer is None or not bool(batch.mask.any()):
            return
        self.measured(step)
        rnn, carry = pl_module.rnn, pl_module.carry_before(batch)
        rnn.eval()
        with torch.no_grad():
            input = pl_module.embed(batch.input)
            output, _ = rnn.gradient.unroll(rnn, input, carry)
        rnn.train()
        with torch.enable_grad():
            output.requires_grad_()
            total, _ = pl_module.loss_sum(output, batch)
            (q_LNH,) = torch.autograd.grad(total / batch.mask.sum(), output)
        try:
            credit = rnn.gradient.credit(rnn, input, carry.hx, q_LNH, after=carry)
        except NotImplementedError:  # a rule that carries influence hands no credit back
            return
        norms = credit.norm(dim=-1)
        if is_kept(step, self.every_n_steps):
            each = {f"credit_log10/l{n}": log_histogram(norm) for n, norm in enumerate(norms)}
            write_histograms(writer, each, step)
        scalars = {
            "credit/zero_fraction": float((norms == 0).double().mean()),
            "credit/nonfinite_fraction": float((~norms.isfinite()).double().mean()),
        }
        write_scalars(trainer, scalars, step)


class StrategyReadings(Periodic):
    """Write what the strategy tells of itself, once a logging window, as `gradient/<name>`.

    Adaptive tells its k, credit_clip how often it clips.
    """

    idle_steps = Periodic.idle_steps

    def on_train_batch_end(self, trainer: Trainer, pl_module: SequenceModule, *_: Any) -> None:
        """Write, if it is time."""
        if not self.is_due(trainer.global_step):
            return
        self.measured(trainer.global_step)
        assert pl_module.carry is not None
        readings = pl_module.rnn.gradient.readings(pl_module.carry)
        if readings:
            scalars = {f"gradient/{name}": value for name, value in readings.items()}
            write_scalars(trainer, scalars, trainer.global_step)
