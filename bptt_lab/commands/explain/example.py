"""The worked example: a network small enough for pen and paper.

Two hidden units, one input, two classes, one sequence, no biases. The state before the first step
is not zero: zero would wipe out the term that reaches back furthest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.nn.rnn import VanillaRNN

HIDDEN = 2


class Example(NamedTuple):
    """The numbers given; everything else follows from them. T steps, double precision."""

    U: Tensor  # (2, 1)
    W: Tensor  # (2, 2)
    V: Tensor  # (2, 2)
    x: Tensor  # (T, 1)
    d: Tensor  # (T, 2), the class wanted at every step, one-hot
    h_0: Tensor  # (2)

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.x)


def fixed(num_steps: int) -> Example:
    """Return the example with one decimal a weight."""
    return Example(
        U=_tensor([[0.6], [-0.4]]),
        W=_tensor([[0.9, -0.5], [0.4, 0.8]]),
        V=_tensor([[1.0, -0.5], [-0.8, 0.7]]),
        x=_tensor([[1.0], [-0.5], [0.5], [-1.0]])[:num_steps],
        d=_tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])[:num_steps],
        h_0=_tensor([0.5, -0.3]),
    )


def random(num_steps: int, seed: int) -> Example:
    """Return an example of two decimals a number, drawn evenly from -1 to 1."""
    draw = generator(seed, "explain")

    def numbers(*shape: int) -> Tensor:
        return torch.randint(-100, 101, shape, generator=draw).double() / 100

    classes = torch.randint(0, 2, (num_steps,), generator=draw)
    return Example(
        U=numbers(HIDDEN, 1),
        W=numbers(HIDDEN, HIDDEN),
        V=numbers(2, HIDDEN),
        x=numbers(num_steps, 1),
        d=torch.nn.functional.one_hot(classes, 2).double(),
        h_0=numbers(HIDDEN),
    )


def network(example: Example) -> VanillaRNN:
    """Return the example's recurrent part as a VanillaRNN, biases left out."""
    rnn = VanillaRNN(1, HIDDEN, bias=False, dtype=torch.float64)
    with torch.no_grad():
        rnn.get_parameter("weight_ih_l0").copy_(example.U)
        rnn.get_parameter("weight_hh_l0").copy_(example.W)
    return rnn


def losses(example: Example, states: Tensor) -> Tensor:
    """Return E_t = sum over classes of (d_t - ybar_t)^2 at every step, (T), for states (T, 2)."""
    ybar = (states @ example.V.t()).softmax(-1)
    return (example.d - ybar).square().sum(-1)


def _tensor(values: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
