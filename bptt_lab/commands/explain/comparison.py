"""The same gradient without the formulas: autograd, finite differences, a gradient strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.commands.explain.example import Example, losses, network
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.rnn import VanillaRNN

STEP = 1e-5  # of the finite differences: error and rounding are below 1e-9


class StrategyGradient(NamedTuple):
    """A strategy's gradient of W beside the full one."""

    gradient: Tensor  # dE/dW, (2, 2)
    mask: Tensor | None  # (T, T) booleans, row t - 1, column s - 1; None where none describes it
    cosine: float  # with the full gradient; nan where one of them is zero
    relative_error: float  # |gradient - full| / |full|; nan where full is zero


def gradient(example: Example, strategy: GradientStrategy, at: Sequence[int]) -> Tensor:
    """Return dE/dW as a strategy leaves it, (2, 2), of the losses at some steps t from 1."""
    rnn = network(example)
    rnn.gradient = strategy
    (found,) = torch.autograd.grad(_loss(example, rnn, at), [rnn.get_parameter("weight_hh_l0")])
    return found


@torch.no_grad()
def finite_differences(example: Example, at: Sequence[int]) -> Tensor:
    """Return (E(W + step) - E(W - step)) / (2 step), entry by entry, (2, 2)."""

    def loss_of(step: Tensor) -> Tensor:
        moved = example._replace(W=example.W + step)
        return _loss(moved, network(moved), at)

    size = example.W.numel()
    steps = STEP * torch.eye(size, dtype=example.W.dtype).view(size, *example.W.shape)
    slopes = [(loss_of(step) - loss_of(-step)) / (2 * STEP) for step in steps]
    return torch.stack(slopes).view_as(example.W)


def compare(example: Example, strategy: GradientStrategy, at: Sequence[int]) -> StrategyGradient:
    """Compare a strategy's gradient with the full one."""
    full, found = (gradient(example, each, at) for each in (Autograd(), strategy))
    try:
        mask = strategy.mask(example.num_steps)
    except NotImplementedError:
        mask = None
    cosine = float((found * full).sum() / (found.norm() * full.norm()))
    return StrategyGradient(found, mask, cosine, float((found - full).norm() / full.norm()))


def _loss(example: Example, rnn: VanillaRNN, at: Sequence[int]) -> Tensor:
    output, _ = rnn.unroll(example.x[:, None], hx=example.h_0[None, None])
    return losses(example, output[:, 0])[[t - 1 for t in at]].sum()
