"""What claims measure with: a net, and its gradient as one vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.initialisation import initialise
from bptt_lab.nn.rnn import VanillaRNN


def net(
    gradient: GradientStrategy,
    seed: int,
    sizes: tuple[int, int, int] = (3, 8, 1),
    init: str = "orthogonal",
    gain: float = 1.0,
    **cell: Any,
) -> VanillaRNN:
    """Make a net in float64 of so many inputs, units and layers; its cell is as VanillaRNN's."""
    rnn = VanillaRNN(*sizes, **cell, dtype=torch.float64, gradient=gradient)
    initialise(rnn, init, gain, None, torch.Generator().manual_seed(seed))
    return rnn


def normal(seed: int, *shape: int) -> Tensor:
    """Draw standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def gradient(rnn: VanillaRNN, input: Tensor, q: Tensor, num_chunks: int = 1) -> Tensor:
    """The net's gradient of sum(q * output), added up over chunks."""
    rnn.zero_grad()
    carry = None
    for x, q_chunk in zip(input.chunk(num_chunks), q.chunk(num_chunks), strict=True):
        output, carry = rnn.unroll(x, carry)
        (output * q_chunk).sum().backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in rnn.parameters() if p.grad is not None])


def exact(rnn: VanillaRNN, input: Tensor, q: Tensor) -> Tensor:
    """The same by torch's own graph; the net keeps its strategy."""
    own, rnn.gradient = rnn.gradient, Autograd()
    found = gradient(rnn, input, q)
    rnn.gradient = own
    return found


def difference(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|."""
    return float((found - expected).norm() / expected.norm())
