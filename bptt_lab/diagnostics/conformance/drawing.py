"""What a strategy promises that draws random numbers."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from bptt_lab.diagnostics.conformance.compare import assert_identical, draws, gradients, suited
from bptt_lab.diagnostics.conformance.nets import Net, collect
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full

DRAWS, COPIES = 32, 32  # unrolls, and copies of one sequence in each


def check_draws(strategy: GradientStrategy) -> None:
    """A draw belongs to its number and moves on with every unroll."""
    net = suited(strategy, Net(4, 20, 2))
    if not draws(strategy):
        return
    rnn, (input, _) = net.rnn(strategy), net.data()
    carry = strategy.init_carry(rnn, net.batch_size)._replace(draw=3)
    _, carry = strategy.unroll(rnn, input, carry)
    assert carry.draw == 4, f"draw: {carry.draw} after an unroll at 3"
    twice = [gradients(copy.deepcopy(strategy), net, draw=7) for _ in range(2)]
    assert_identical(twice[0], twice[1], "draw: the same number, another draw")


def check_unbiased(strategy: GradientStrategy) -> None:
    """If it says so, the mean over draws is full BPTT's gradient, as far as the draws can tell."""
    if not (strategy.unbiased and draws(strategy)):
        return
    net = suited(strategy, Net(3, 5, COPIES, leak=0.5))
    input = net.data()[0].detach()[:, :1].expand(-1, COPIES, -1)
    found = []
    for draw in range(DRAWS):
        rnn = net.rnn(strategy)
        rnn.draw = draw
        net.loss_of(rnn(input)[0]).backward()
        found.append(torch.cat([g.flatten() for g in collect(rnn).values()]))
    rnn = net.rnn(Full())
    net.loss_of(rnn(input)[0]).backward()
    full = torch.cat([g.flatten() for g in collect(rnn).values()])
    g = torch.stack(found)
    error = float((g.mean(0) - full).norm() / full.norm())
    expected = float((g.var(0).sum() / DRAWS).sqrt() / full.norm())
    assert expected < 1, f"unbiased: too noisy to tell, {expected:.1e} of the gradient"
    assert error < 3 * expected, f"claims to be unbiased, but its mean is off by {error:.1e}"


DRAWING: list[Callable[[GradientStrategy], None]] = [check_draws, check_unbiased]
