"""One layer's tensors for a shape, the same for every implementation, and the right answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bptt_lab.commands.bench.workload import Conditions, Shape


class Problem(NamedTuple):
    """What an implementation works on."""

    shape: Shape
    conditions: Conditions
    input: Tensor  # (L, N, I)
    v: Tensor  # immediate credit dE_t/dh_t, (L, N, H)
    weights: dict[str, Tensor]  # by nn.RNN's names


def draw(shape: Shape, conditions: Conditions) -> Problem:
    """Draw a problem: the same numbers under all conditions."""
    L, N, I, H = shape
    generator = torch.Generator().manual_seed(0)
    place = torch.device(conditions.device), getattr(torch, conditions.dtype)

    def randn(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(*place)

    def uniform(*sizes: int) -> Tensor:
        # nn.RNN's own initialisation.
        drawn = torch.rand(sizes, generator=generator).mul_(2).sub_(1).div_(H**0.5)
        return drawn.to(*place)

    weights = {
        "weight_ih_l0": uniform(H, I),
        "weight_hh_l0": uniform(H, H),
        "bias_ih_l0": uniform(H),
        "bias_hh_l0": uniform(H),
    }
    return Problem(shape, conditions, randn(L, N, I), randn(L, N, H), weights)


def solve(problem: Problem) -> tuple[Tensor, dict[str, Tensor]]:
    """The output (L, N, H) and the gradients of the weights by name: nn.RNN's in float64.

    On the values as rounded to the precision under test: an error is the arithmetic's alone.
    """
    rnn = torch.nn.RNN(problem.shape.I, problem.shape.H, dtype=torch.float64)
    rnn.load_state_dict(problem.weights)
    output, _ = rnn(problem.input.cpu().double())
    output.backward(problem.v.cpu().double())
    gradients = {name: p.grad for name, p in rnn.named_parameters() if p.grad is not None}
    return output.detach(), gradients


def error(found: Any, right: Tensor) -> float:
    """The largest deviation over the largest right value, max |found - right| / max |right|.

    What was found may be a tensor or a JAX array.
    """
    found = torch.from_dlpack(found).cpu().double()
    return float((found - right).abs().max() / right.abs().max())


def gradient_error(found: Mapping[str, Any], right: Mapping[str, Tensor]) -> float:
    """The largest `error` of any weight's gradient."""
    return max(error(found[name], right[name]) for name in right)
