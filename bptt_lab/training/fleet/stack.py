"""Networks of equal sizes as rows of one tensor: their parameters, gradients and averages."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.optim import Optimizer

from bptt_lab.training.fleet.optimizers import StackedOptimizer, supports
from bptt_lab.training.module import SequenceModule

LINE = 64  # bytes: torch begins every tensor at a multiple, and bits of a product may depend on it


def rows(count: int, *shape: int, like: Tensor) -> Tensor:
    """Make (count, *shape) zeros, each row of which begins where a tensor by itself would."""
    numbers = LINE // like.element_size()
    size = prod(shape)
    whole = like.new_zeros(count, -(-size // numbers) * numbers)
    return whole[:, :size].view(count, *shape)


class Stack:
    """Replicas' networks, whose parameters become views of one tensor.

    Args:
        modules: R networks with parameters of equal shapes.
        optimizers: of each; none where nothing more is learnt.

    Attributes:
        parameters, gradients: (R, P), P with room for every parameter to begin as a tensor does.
        named: R networks' views of these, by name, (R, ...).
    """

    def __init__(self, modules: Sequence[SequenceModule], optimizers: Sequence[Optimizer]) -> None:
        self.modules = list(modules)
        first = dict(modules[0].named_parameters())
        like = next(iter(first.values())).detach()
        numbers = LINE // like.element_size()
        places, size = {}, 0
        for name, parameter in first.items():
            places[name] = size
            size += -(-parameter.numel() // numbers) * numbers
        self.parameters = like.new_zeros(len(modules), size)
        self.gradients = torch.zeros_like(self.parameters)
        self.named: dict[str, tuple[Tensor, Tensor]] = {}
        for name, parameter in first.items():
            part = slice(places[name], places[name] + parameter.numel())
            whole, gradient = (
                tensor[:, part].view(-1, *parameter.shape)
                for tensor in (self.parameters, self.gradients)
            )
            self.named[name] = whole, gradient
        self.own: list[list[tuple[torch.nn.Parameter, Tensor]]] = []
        for row, module in enumerate(modules):
            own = []
            for name, parameter in module.named_parameters():
                whole, gradient = self.named[name]
                whole[row].copy_(parameter.detach())
                if parameter.grad is not None:
                    gradient[row].copy_(parameter.grad)
                parameter.data = whole[row]
                own.append((parameter, gradient[row]))
            self.own.append(own)
        self.average = self._averages()
        self.hand_out()
        self.stacked: StackedOptimizer | None = None  # they step by themselves
        if len(optimizers) == len(modules) and supports(optimizers):
            self.stacked = StackedOptimizer(optimizers, self.parameters, self.gradients)

    def _averages(self) -> Tensor | None:
        """Make the moving averages views of one tensor, (R, P), where all have one."""
        averages = [module.average for module in self.modules]
        if any(average is None or not average.kept for average in averages):
            return None
        stacked = torch.zeros_like(self.parameters)
        for row, module in enumerate(self.modules):
            assert module.average is not None
            for name, (whole, _) in self.named.items():
                kept = stacked[row].as_strided(
                    whole[row].shape,
                    whole[row].stride(),
                    stacked[row].storage_offset() + whole.storage_offset(),
                )
                module.average.kept[name] = kept.copy_(module.average.kept[name])
        return stacked

    def hand_out(self) -> None:
        """Have every parameter's `.grad` be its part of the gradients; validation takes it away."""
        for own in self.own:
            for parameter, gradient in own:
                parameter.grad = gradient

    def step(self, rows: Sequence[int]) -> bool:
        """Let optimizers make their step, and averages follow; whether they can do so together."""
        averages = [self.modules[row].average for row in rows]
        if self.stacked is None or (self.average is None and any(averages)):
            return False
        rates = [self.modules[row].trainer.optimizers[0].param_groups[0]["lr"] for row in rows]
        if max(rates) * 1e6 > torch.finfo(self.parameters.dtype).max:
            return False  # torch refuses a step of such a length
        if any(parameter.grad is None for row in rows for parameter, _ in self.own[row]):
            return False  # an optimizer leaves it as it is, decay included
        for row in rows:
            for parameter, gradient in self.own[row]:
                if parameter.grad is not gradient and parameter.grad is not None:
                    gradient.copy_(parameter.grad)  # of a network that has found its own
        self.stacked.step(rows)
        if self.average is None:
            return True
        steps = [self.modules[row].trainer.global_step + 1 for row in rows]
        weights = [a.weight(step) for a, step in zip(averages, steps, strict=True) if a]
        if len(rows) == len(self.modules) and len(set(weights)) == 1:
            self.average.lerp_(self.parameters, weights[0])
            return True
        for row, weight in zip(rows, weights, strict=True):
            self.average[row].lerp_(self.parameters[row], weight)
        return True
