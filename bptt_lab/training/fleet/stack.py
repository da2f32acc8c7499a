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
        self._gradients = [gradient for own in self.own for _, gradient in own]
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

    def norms(self) -> Tensor:
        """Return the norm of each network's gradient by each parameter, (R, parameters)."""
        return torch.stack(torch._foreach_norm(self._gradients)).view(len(self.own), -1)

    def steps(self, rows: Sequence[int]) -> bool:
        """Whether optimizers can make their step together, as long as nobody changes them."""
        averages = [self.modules[row].average for row in rows]
        if self.stacked is None or (self.average is None and any(averages)):
            return False
        rates = [self.modules[row].trainer.optimizers[0].param_groups[0]["lr"] for row in rows]
        rates += [
            rate for row in rows for rate in self.modules[row].rates.first
        ]  # as a schedule begins
        if max(rates) * 1e6 > torch.finfo(self.parameters.dtype).max:
            return False  # torch refuses a step of such a length
        # Where there is no gradient an optimizer leaves a parameter as it is, decay included.
        return not any(parameter.grad is None for row in rows for parameter, _ in self.own[row])

    def step(self, rows: Sequence[int], numbers: Sequence[int]) -> None:
        """Let optimizers make their step, and averages follow; `steps` has said that they can.

        Args:
            rows: of the networks.
            numbers: of each one's step, from 1 on.
        """
        assert self.stacked is not None
        for row in rows:
            for parameter, gradient in self.own[row]:
                if parameter.grad is not gradient and parameter.grad is not None:
                    gradient.copy_(parameter.grad)  # of a network that has found its own
        self.stacked.step(rows)
        if self.average is None:
            return
        averages = [self.modules[row].average for row in rows]
        weights = [own.weight(n) for own, n in zip(averages, numbers, strict=True) if own]
        if len(rows) == len(self.modules) and len(set(weights)) == 1:
            self.average.lerp_(self.parameters, weights[0])
            return
        for row, weight in zip(rows, weights, strict=True):
            self.average[row].lerp_(self.parameters[row], weight)
