"""The worked example: a network small enough for pen and paper, and its gradient otherwise.

Two hidden units, one input, two classes, one sequence, no biases. The state before the first step
is not zero: zero would wipe out the term that reaches back furthest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bptt_lab.core.random import generator
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.nn.rnn import VanillaRNN

HIDDEN = 2
STEP = 1e-5  # of the finite differences: error and rounding are below 1e-9


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
