"""A loss or gradient that is inf or NaN: stop before it reaches the parameters, or note it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from bptt_lab.training.module import SequenceModule


class Divergence:
    """What to make of a step's loss and gradient norms.

    Args:
        then: "stop" has the run end before the optimizer steps; "record" notes the first step.
    """

    def __init__(self, then: Literal["stop", "record"]) -> None:
        self.then = then
        self.first = ""  # what diverged first, and when; empty while nothing did

    def found(
        self, module: LightningModule, norms: tuple[Tensor, ...], names: list[str], step: int
    ) -> bool:
        """Look at a step's norms; tell whether the run must stop.

        Args:
            module: for the latest loss.
            norms: of each parameter's gradient.
            names: of the parameters.
            step: the optimizer step about to be taken, from 1.
        """
        if math.isfinite(float(torch.stack(norms).sum())):
            return False
        if not self.first:
            assert isinstance(module, SequenceModule)
            loss = float(module.latest_sum)
            broken = [name for name, norm in zip(names, norms, strict=True) if not norm.isfinite()]
            what = ", ".join(broken) or "all parameters together"
            self.first = (
                f"the gradient of {what} is not finite at step {step}"
                if math.isfinite(loss)
                else f"the loss is {loss} at step {step}"
            )
        return self.then == "stop"
