"""Norms of the gradient before clipping: in all and for each parameter."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from bptt_lab.callbacks.writers import tensorboard_writer, write_scalars
from bptt_lab.histograms import log_histogram, write_histogram


class GradientNorms(Callback):
    """Gather the norms of every step; write them once a logging window.

    Scalars `gradient_norm/total` and `gradient_norm/<parameter>` are means over the window;
    histograms `gradient_norm_log10/<parameter>` hold its single steps, and
    `gradient_norm/nonfinite` counts the norms that were inf or NaN.

    Args:
        every_n_steps: optimizer steps in a window.
    """

    def __init__(self, *, every_n_steps: int) -> None:
        self.every_n_steps = every_n_steps
        self._norms: list[Tensor] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Add this step's norms."""
        named = [(n, p.grad) for n, p in pl_module.named_parameters() if p.grad is not None]
        names = [name for name, _ in named]
        self._norms.append(torch.stack(torch._foreach_norm([grad for _, grad in named])))
        if len(self._norms) >= self.every_n_steps:
            self._write(trainer, names)

    def _write(self, trainer: Trainer, names: list[str]) -> None:
        # The hook comes before the step that it belongs to is counted.
        step = trainer.global_step + 1
        norms = torch.stack(self._norms).float().cpu()  # (steps, parameters)
        self._norms = []
        total = norms.square().sum(1).sqrt()
        scalars = {"gradient_norm/total": float(total.mean())}
        scalars |= {
            f"gradient_norm/{name}": float(norm)
            for name, norm in zip(names, norms.mean(0), strict=True)
        }
        scalars["gradient_norm/nonfinite"] = float((~norms.isfinite()).sum())
        write_scalars(trainer, scalars, step)
        if writer := tensorboard_writer(trainer):
            for name, norm in zip(names, norms.t(), strict=True):
                tag = f"gradient_norm_log10/{name}"
                write_histogram(writer, tag, log_histogram(norm), step)
