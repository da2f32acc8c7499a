"""What a strategy promises that draws random numbers: the draw's number, and the mean."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

import copy
from typing import NamedTuple

import torch

from bptt_lab.diagnostics.conformance.compare import (
    VISIBLE,
    assert_identical,
    differ,
    difference,
    draws,
    suited,
)
from bptt_lab.diagnostics.conformance.nets import (
    Gradients,
    Net,
    collect,
    gradients,
    remembering_gradients,
    run,
    start,
)
from bptt_lab.diagnostics.conformance.outcomes import Failed, Skipped, require
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full

COPIES = 256  # of one sequence in each unroll; a strategy may draw for each of them
FEWEST, MOST = 256, 1024  # draws
PRECISION = 0.015  # standard error of a parameter's gradient, relative, that is enough
SIGMAS, SLACK = 5, 0.01  # what is allowed: five standard errors, and one percent


def check_draws(strategy: GradientStrategy) -> None:
    """A draw belongs to its number and moves on with every unroll."""
    if not draws(strategy):
        raise Skipped(f"{strategy} gives the same gradient at all draws that were tried")
    net = suited(strategy, Net(4, 20, 2))._replace(leaves=False)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    _, carry = strategy.unroll(rnn, input, start(rnn, hx, draw=3))
    number = carry.draw
    require(number == 4, f"draw: the number is {number} after an unroll at 3, not 4")
    twice = [gradients(copy.deepcopy(strategy), net, draw=7) for _ in range(2)]
    assert_identical(twice[0], twice[1], "draw: two gradients at one number")


def check_unbiased(strategy: GradientStrategy) -> None:
    """If it says so, the mean over draws is full BPTT's gradient.

    Each parameter's gradient is projected on full BPTT's, and all of them are compared at once; a
    gradient off by a tenth is found. A strategy that gives one gradient only must give full BPTT's,
    on a long sequence that a net does not forget.
    """
    if not strategy.unbiased:
        raise Skipped(f"{strategy} does not claim to be unbiased")
    if strategy.exact_within_chunk:
        raise Skipped(f"{strategy} claims to be exact within a chunk, which another check verifies")
    # Some strategies seldom draw anything, and then on a long sequence.
    many = (remembering_gradients(strategy, [200], draw) for draw in range(FEWEST))
    if not draws(strategy) and not differ(many):
        found, full = (remembering_gradients(s, [200]) for s in (strategy, Full()))
        off = max(difference(found[name], full[name]) for name in full)
        require(
            off < VISIBLE,
            f"claims to be unbiased, but gives one gradient at every draw, off by {off:.1e}",
        )
        return
    compared = means(strategy)
    for mean in compared:
        if mean.is_biased:
            raise Failed(
                f"claims to be unbiased, but its mean is off by {mean.off:.1%} in {mean.of}, "
                f"at a standard error of {mean.error:.1%}"
            )
    error = max(mean.error for mean in compared[:-1])
    if error > PRECISION:
        raise Skipped(f"{MOST} draws know the mean to {error:.1%} only, not {PRECISION:.1%}")


class Mean(NamedTuple):
    """How far the mean over draws is from full BPTT's gradient."""

    of: str
    off: float  # relative
    error: float  # standard error of `off`

    @property
    def is_biased(self) -> bool:
        """Whether the mean is off by more than its standard error explains, or not a number."""
        return not self.off <= SIGMAS * self.error + SLACK


def means(strategy: GradientStrategy) -> list[Mean]:
    """Each parameter's mean gradient along full BPTT's, and the whole one in every direction."""
    net = suited(strategy, Net(3, 10, COPIES, num_layers=2, leak=0.5))._replace(leaves=False)
    full, found = gradient_of_copies(Full(), net, 0), list[Gradients]()
    while True:
        found += [gradient_of_copies(strategy, net, len(found) + n) for n in range(FEWEST)]
        along = {
            name: torch.stack([g[name] @ f for g in found]) / (f @ f) for name, f in full.items()
        }
        root = len(found) ** 0.5
        parts = [Mean(n, float(abs(a.mean() - 1)), float(a.std()) / root) for n, a in along.items()]
        if max(part.error for part in parts) <= PRECISION or len(found) >= MOST:
            break
    rows = torch.stack([torch.cat(list(g.values())) for g in found])
    whole = torch.cat(list(full.values()))
    error = float(rows.var(0).sum().sqrt() / root / whole.norm())
    return [*parts, Mean("the whole gradient", difference(rows.mean(0), whole), error)]


def gradient_of_copies(strategy: GradientStrategy, net: Net, draw: int) -> Gradients:
    """Each parameter's gradient, flat, summed over copies of one sequence."""
    rnn, data = net.rnn(strategy), net.data()
    input, hx = (tensor[:, :1].expand(-1, COPIES, -1) for tensor in data)
    net.loss_of(run(rnn, input, hx, draw).output).backward()
    return {name: g.flatten() for name, g in collect(rnn).items()}
