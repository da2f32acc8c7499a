"""How much credit reaches each time step: log10 |dE/dh_t| under the strategy that trains."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer

from bptt_lab.tasks.base import SequenceBatch
from bptt_lab.training.callbacks.writers import Periodic, tensorboard_writer, write_scalars
from bptt_lab.training.histograms import log_histogram, write_histogram
from bptt_lab.training.module import SequenceModule


class CreditHistogram(Periodic):
    """Measure the credit dE/dh_t of a batch before it is trained on, once a logging window.

    The histogram `credit_log10/<layer>` holds |dE/dh_t| of every time step and sequence;
    `credit/zero_fraction` is the share of steps that get none at all, `credit/nonfinite_fraction`
    the share that got inf or NaN. The measurement drops no unit and draws no number, so that
    training is the same without it.
    """

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: SequenceBatch, batch_idx: int
    ) -> None:
        """Measure, if it is time and the batch has a loss at all."""
        assert isinstance(pl_module, SequenceModule)
        if not self.is_due(trainer):
            return
        writer = tensorboard_writer(trainer)
        if writer is None or not bool(batch.mask.any()):
            return
        self.measured(trainer)
        rnn, carry = pl_module.rnn, pl_module.carry_before(batch)
        rnn.eval()
        with torch.no_grad():
            output, _ = rnn.gradient.unroll(rnn, batch.input, carry)
        rnn.train()
        with torch.enable_grad():
            output.requires_grad_()
            total, _ = pl_module.loss_sum(output, batch)
            (q_LNH,) = torch.autograd.grad(total / batch.mask.sum(), output)
        try:
            credit = rnn.gradient.credit(rnn, batch.input, carry.hx, q_LNH, after=carry)
        except NotImplementedError:  # a rule that carries influence hands no credit back
            return
        step = trainer.global_step
        norms = credit.norm(dim=-1)
        for layer, norm in enumerate(norms):
            write_histogram(writer, f"credit_log10/l{layer}", log_histogram(norm), step)
        scalars = {
            "credit/zero_fraction": float((norms == 0).double().mean()),
            "credit/nonfinite_fraction": float((~norms.isfinite()).double().mean()),
        }
        write_scalars(trainer, scalars, step)
