"""The exponential moving average of the parameters: what is validated, tested and kept.

Where the step size stays as it is, the last parameters are a draw from around a minimum, and some
draws are bad. Their average is steadier, and costs one pass over the parameters a step. It begins
as the parameters do, and forgets faster at first: after step t it keeps
min(decay, (t - 1) / (t + 9)) of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class Average:
    """The moving average of a module's parameters, by name; it keeps `decay` of itself at most."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.kept: dict[str, Tensor] = {}  # empty outside of training

    def start(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Begin with the parameters, or go on with what `restore` brought."""
        self.kept = {n: self.kept.get(n, p).detach().to(p.device, copy=True) for n, p in named}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what an earlier attempt had."""
        self.kept = dict(state)

    @torch.no_grad()
    def update(self, named: Iterable[tuple[str, nn.Parameter]], step: int) -> None:
        """Move towards the parameters that optimizer step `step` ended with; the first is 1."""
        weight = 1 - min(self.decay, (step - 1) / (step + 9))
        parameters = [p.detach() for _, p in named]
        torch._foreach_lerp_([*self.kept.values()], parameters, weight)

    @torch.no_grad()
    def swap(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Exchange the average and the parameters, once there is an average."""
        for name, parameter in named if self.kept else ():
            other = self.kept[name].clone()
            self.kept[name].copy_(parameter)
            parameter.copy_(other)
