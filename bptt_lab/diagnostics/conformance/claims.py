"""What a strategy claims: exact or not, linear or not, which mask; and what it refuses."""

from __future__ import annotations

import torch

from bptt_lab.diagnostics.conformance.compare import (
    VISIBLE,
    assert_same,
    difference,
    full_mask,
    refusal,
    stated_mask,
    suited,
)
from bptt_lab.diagnostics.conformance.nets import Gradients, Net, gradients, remembering_gradients
from bptt_lab.diagnostics.conformance.outcomes import Skipped, require
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import GradientStrategy


def check_claims_are_stated(strategy: GradientStrategy) -> None:
    """Every claim is True or False; cost and space are texts with a big O."""
    for claim in ("exact_within_chunk", "exact_across_chunks", "unbiased", "linear"):
        require(isinstance(getattr(strategy, claim, None), bool), f"{claim} is not stated")
    for name in ("cost", "space"):
        text = getattr(strategy, name, None)
        require(isinstance(text, str) and "O(" in text, f"{name} is not stated, such as O(L N H)")


def check_exact_within_chunk(strategy: GradientStrategy) -> None:
    """Equal to full BPTT's gradient if it says so, visibly different on a long sequence if not."""
    actual, expected = (remembering_gradients(s, [200]) for s in (strategy, Autograd()))
    if strategy.exact_within_chunk:
        assert_same(actual, expected, "claims to be exact within a chunk")
        require(strategy.unbiased, "claims to be exact within a chunk, but not to be unbiased")
    else:
        off = difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
        require(off > VISIBLE, f"claims to be inexact within a chunk, but is off by {off:.1e}")


def check_exact_across_chunks(strategy: GradientStrategy) -> None:
    """Summed over chunks: full BPTT's gradient of the whole if it says so, visibly off if not."""
    expected = remembering_gradients(Autograd(), [30])
    for lengths in ([6, 6, 6, 6, 5, 1], [1] * 30, [3] * 10, [4] * 7 + [2], [5] * 6):
        actual = remembering_gradients(strategy, lengths)
        if strategy.exact_across_chunks:
            assert_same(actual, expected, "claims to be exact across chunks")
        else:
            off = difference(actual["weight_hh_l0"], expected["weight_hh_l0"])
            require(off > VISIBLE, f"claims to be inexact across chunks, but is off by {off:.1e}")


def check_mask(strategy: GradientStrategy) -> None:
    """No loss reaches a later step; an exact strategy's mask keeps all the rest."""
    for num_steps in (1, 2, 7, 30):
        mask = stated_mask(strategy, num_steps)
        if mask is None:
            raise Skipped(f"{strategy} states no mask")
        form = mask.dtype == torch.bool and mask.shape == (num_steps, num_steps)
        require(form, f"mask: must be ({num_steps}, {num_steps}) booleans")
        require(not (mask & ~full_mask(num_steps)).any(), "mask: a loss reaches the future")
        if strategy.exact_within_chunk:
            full = torch.equal(mask, full_mask(num_steps))
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
        off = max(off, *(difference(g / scale, one[name] + two[name]) for name, g in found.items()))
    require(off > VISIBLE, f"claims not to be linear in the loss, but is, to within {off:.1e}")


def check_refuses(strategy: GradientStrategy) -> None:
    """What it cannot do it refuses on one line, naming strategies that can."""
    plain = Net(2, 2, 1, leaves=False)
    message = refusal(strategy, plain)
    require(message is None, f"refusal: it does not take the plainest net: {message}")
    for net in (plain._replace(num_layers=2), plain._replace(leaves=True)):
        message = refusal(strategy, net)
        if message is not None:
            require("\n" not in message, f"refusal: more than a line: {message}")
            require("full" in message, f"refusal: names no strategy that can: {message}")
