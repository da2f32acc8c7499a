"""The moving average of a module's parameters."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of a module's parameters, by name.

    Where the step size stays as it is, the last parameters are a draw from around a minimum, and
    some draws are bad. Their average is steadier, and costs one pass over the parameters a step. It
    begins as the parameters do and forgets faster at first: after step t, the first being 1, it
    keeps min(decay, (t - 1) / (t + 9)) of itself.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.kept: dict[str, Tensor] = {}  # empty outside of training

    def start(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Begin with the parameters, or go on with what an earlier attempt kept."""
        self.kept = {n: self.kept.get(n, p).detach().to(p.device, copy=True) for n, p in named}

    def weight(self, step: int) -> float:
        """Return what the parameters count for that an optimizer step ended with."""
        return 1 - min(self.decay, (step - 1) / (step + 9))

    @torch.no_grad()
    def update(self, parameters: Iterator[nn.Parameter], step: int) -> None:
        """Move towards the parameters that an optimizer step ended with."""
        new = [p.detach() for p in parameters]
        torch._foreach_lerp_([*self.kept.values()], new, self.weight(step))

    @torch.no_grad()
    def swap(self, named: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Exchange the average and the parameters, once there is an average."""
        for name, parameter in named if self.kept else ():
            other = self.kept[name].clone()
            self.kept[name].copy_(parameter)
            parameter.copy_(other)
