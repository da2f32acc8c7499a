"""The same gradient by other ways: autograd, finite differences, a gradient strategy.

None of them uses the formulas of `derivation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.commands.explain.example import Example, losses, network
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy

W_HH = "weight_hh_l0"
STEP = 1e-5  # of the finite differences: error and rounding are below 1e-9


class StrategyGradient(NamedTuple):
    """A strategy's gradient of W beside the full one."""

    gradient: Tensor  # dE/dW, (2, 2)
    mask: Tensor | None  # (T, T) booleans, row t - 1, column s - 1; None where none describes it
    cosine: float  # with the full gradient; nan where one of them is zero
    relative_error: float  # |gradient - full| / |full|; nan where full is zero


def gradient(example: Example, strategy: GradientStrategy, at: Sequence[int]) -> Tensor:
    """Return dE/dW as a strategy's `.backward()` would leave it, (2, 2).

    Args:
        example: the numbers.
        strategy: decides what differentiating means.
        at: the steps t, from 1, whose E_t count.
    """
    rnn = network(example)
    rnn.gradient = strategy
    output, _ = rnn.unroll(example.x[:, None], hx=example.h_0[None, None])
    (found,) = torch.autograd.grad(_loss(example, output[:, 0], at), [rnn.get_parameter(W_HH)])
    return found


def finite_differences(example: Example, at: Sequence[int]) -> Tensor:
    """Return (E(W + step) - E(W - step)) / (2 step), entry by entry, (2, 2)."""
    result = torch.zeros_like(example.W)
    for entry in torch.cartesian_prod(*(torch.arange(n) for n in result.shape)):
        i, j = map(int, entry)
        ends = []
        for step in (STEP, -STEP):
            W = example.W.clone()
            W[i, j] += step
            ends.append(_loss_of(example._replace(W=W), at))
        result[i, j] = (ends[0] - ends[1]) / (2 * STEP)
    return result


def compare(example: Example, strategy: GradientStrategy, at: Sequence[int]) -> StrategyGradient:
    """Compare a strategy's gradient with the full one."""
    full, found = (gradient(example, each, at) for each in (Autograd(), strategy))
    try:
        mask = strategy.mask(example.num_steps)
    except NotImplementedError:
        mask = None
    cosine = float((found * full).sum() / (found.norm() * full.norm()))
    return StrategyGradient(found, mask, cosine, float((found - full).norm() / full.norm()))


def _loss(example: Example, states: Tensor, at: Sequence[int]) -> Tensor:
    return losses(example, states)[[t - 1 for t in at]].sum()


@torch.no_grad()
def _loss_of(example: Example, at: Sequence[int]) -> float:
    output, _ = network(example)(example.x[:, None], example.h_0[None, None])
    return float(_loss(example, output[:, 0], at))
