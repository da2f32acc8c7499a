"""What a strategy claims: exact, unbiased, linear or not, which mask; and what it refuses."""

# mypy: disallow-untyped-calls=False

from typing import NamedTuple

import torch

from bptt_lab.diagnostics.conformance import compare, nets
from bptt_lab.diagnostics.conformance.compare import Skipped, assert_same, draws, require, suited
from bptt_lab.diagnostics.conformance.nets import Gradients, Net, collect, gradients, run
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.gradients.full import Full

COPIES = 256  # of one sequence in each unroll; a strategy may draw for each of them
FEWEST, MOST = 256, 1024  # draws
PRECISION = 0.015  # standard error of a parameter's gradient, relative, that is enough
SIGMAS, SLACK = 5, 0.01  # what is allowed: five standard errors, and one percent


def check_claims_are_stated(strategy: GradientStrategy) -> None:
    """Every claim is True or False; cost and space are texts with a big O."""
    for claim in ("exact_within_chunk", "exact_across_chunks", "unbiased", "linear"):
        require(isinstance(getattr(strategy, claim, None), bool), f"{claim} is not stated")
    for name in ("cost", "space"):
        text = getattr(strategy, name, None)
        require(isinstance(text, str) and "O(" in text, f"{name} is not stated, such as O(L N H)")


def check_exact_within_chunk(strategy: GradientStrategy) -> None:
    """Equal to full BPTT's gradient if it says so, visibly different on a long sequence if not."""
    pair = (strategy, Autograd())
    actual, expected = (nets.remembering_gradients(s, [200]) for s in pair)
    if strategy.exact_within_chunk:
        assert_same(actual, expected, "claims to be exact within a chunk")
        require(strategy.unbiased, "claims to be exact within a chunk, but not to be unbiased")
    else:
        off = compare.difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
        if off <= compare.VISIBLE:  # it may treat layers, inputs or biases apart
            net = suited(strategy, Net(4, 20, num_layers=3))
            actual, expected = (gradients(s, net) for s in pair)
            off = max(compare.difference(actual[name], expected[name]) for name in expected)
        inexact = f"claims to be inexact within a chunk, but is off by {off:.1e}"
        way_out = "if it is exact, say exact_within_chunk = True"
        require(off > compare.VISIBLE, f"{inexact}; {way_out}")


def check_exact_across_chunks(strategy: GradientStrategy) -> None:
    """Summed over chunks: full BPTT's gradient of the whole if it says so, visibly off if not."""
    expected = nets.remembering_gradients(Autograd(), [30])
    for lengths in ([6, 6, 6, 6, 5, 1], [1] * 30, [3] * 10, [4] * 7 + [2], [5] * 6):
        actual = nets.remembering_gradients(strategy, lengths)
        if strategy.exact_across_chunks:
            assert_same(actual, expected, "claims to be exact across chunks")
        else:
            off = compare.difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
            if off <= compare.VISIBLE:  # it may reach back nearly as far
                pair = (strategy, [5] * 40), (Autograd(), [200])
                long = [nets.remembering_gradients(*each)["weight_hh_l0"] for each in pair]
                off = compare.difference(*long)
            inexact = f"claims to be inexact across chunks, but is off by {off:.1e}"
            require(off > compare.VISIBLE, inexact)


def check_mask(strategy: GradientStrategy) -> None:
    """No loss reaches a later step; an exact strategy's mask keeps all the rest."""
    for num_steps in (1, 2, 7, 30):
        mask = compare.stated_mask(strategy, num_steps)
        if mask is None:
            raise Skipped(f"{strategy} states no mask")
        form = mask.dtype in (torch.bool, torch.float64) and mask.shape == (num_steps, num_steps)
        require(form, f"mask: must be ({num_steps}, {num_steps}) booleans, or weights in float64")
        ahead = mask.bool() & ~compare.full_mask(num_steps)
        require(not ahead.any(), "mask: a loss reaches the future")
        if strategy.exact_within_chunk:
            full = torch.equal(mask, compare.full_mask(num_steps))
            require(full, "mask: claims to be exact within a chunk, but its mask is not full")


def check_linear(strategy: GradientStrategy) -> None:
    """Gradients scale and add as losses do, or visibly do not if it says `linear = False`."""
    net = suited(strategy, Net(4, 7, num_layers=2))

    def mixed(a: float, b: float) -> Gradients:
        return gradients(strategy, net, loss=lambda h: a * net.loss_of(h) + b * h.sin().sum())

    one, two = mixed(1, 0), mixed(0, 1)
    if strategy.linear:
        expected = {name: -2.5 * one[name] + 4 * two[name] for name in one}
        assert_same(mixed(-2.5, 4), expected, "not linear in the loss", 1e-12)
        return
    off = 0.0
    for scale in (1e-6, 1e-3, 1e3, 1e6):  # what bounds a gradient may lie far from these losses
        found = mixed(scale, scale)
        parts = [compare.difference(g / scale, one[name] + two[name]) for name, g in found.items()]
        off = max(off, *parts)
    require(off > compare.VISIBLE, f"claims not to be linear in the loss, but is, to {off:.1e}")


def check_refuses(strategy: GradientStrategy) -> None:
    """What it cannot do it refuses on one line, naming strategies that can."""
    plain = Net(2, 2, 1, leaves=False)
    message = compare.refusal(strategy, plain)
    require(message is None, f"refusal: it does not take the plainest net: {message}")
    for net in (plain._replace(num_layers=2), plain._replace(leaves=True)):
        message = compare.refusal(strategy, net)
        if message is not None:
            require("\n" not in message, f"refusal: more than a line: {message}")
            require("full" in message, f"refusal: names no strategy that can: {message}")


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
    many = (nets.remembering_gradients(strategy, [200], draw) for draw in range(FEWEST))
    if not draws(strategy) and not compare.differ(many):
        found, full = (nets.remembering_gradients(s, [200]) for s in (strategy, Full()))
        off = max(compare.difference(found[name], full[name]) for name in full)
        biased = f"claims to be unbiased, but gives one gradient at every draw, off by {off:.1e}"
        require(off < compare.VISIBLE, biased)
        return
    compared = means(strategy)
    for mean in compared:
        if not mean.off <= SIGMAS * mean.error + SLACK:  # not a number is biased too
            raise compare.Failed(
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
    return [*parts, Mean("the whole gradient", compare.difference(rows.mean(0), whole), error)]


def gradient_of_copies(strategy: GradientStrategy, net: Net, draw: int) -> Gradients:
    """Each parameter's gradient, flat, summed over copies of one sequence."""
    rnn, data = net.rnn(strategy), net.data()
    input, hx = (tensor[:, :1].expand(-1, COPIES, -1) for tensor in data)
    net.loss_of(run(rnn, input, hx, draw).output).backward()
    return {name: g.flatten() for name, g in collect(rnn).items()}
