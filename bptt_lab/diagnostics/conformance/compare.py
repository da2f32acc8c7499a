"""What the checks share: how gradients are compared, and what a strategy is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bptt_lab.diagnostics.conformance import nets
from bptt_lab.diagnostics.conformance.nets import Gradients, Net, full_mask, masked_by_hand
from bptt_lab.gradients.base import Carry, GradientStrategy

VISIBLE = 1e-2  # relative difference that no rounding explains


def assert_same(
    actual: Gradients, expected: Gradients, what: str, tolerance: float = 1e-10
) -> None:
    """Each tensor equal to `tolerance`, relative to its largest entry."""
    assert actual.keys() == expected.keys(), f"{what}: {sorted(actual)}, not {sorted(expected)}"
    largest = max(largest_entry(g) for g in expected.values())
    for name, wanted in expected.items():
        assert actual[name].shape == wanted.shape, f"{what}: {name} is {tuple(actual[name].shape)}"
        allowed = tolerance * largest_entry(wanted) + 1e-14 * largest
        error = largest_entry(actual[name] - wanted)
        assert error <= allowed, f"{what}: {name} is off by {error:.1e}, allowed {allowed:.1e}"


def largest_entry(tensor: Tensor) -> float:
    """The largest modulus."""
    return float(tensor.detach().abs().max())


def assert_identical(actual: Gradients, expected: Gradients, what: str) -> None:
    """Each tensor equal to the last bit."""
    assert actual.keys() == expected.keys(), f"{what}: {sorted(actual)}, not {sorted(expected)}"
    for name, wanted in expected.items():
        assert torch.equal(actual[name], wanted), f"{what}: {name} differs"


def mask_of(strategy: GradientStrategy, num_steps: int) -> Tensor:
    """The mask whose gradient the strategy promises."""
    if strategy.exact_within_chunk:
        return full_mask(num_steps)
    try:
        return strategy.mask(num_steps)
    except NotImplementedError:
        pytest.skip(f"{strategy} has no fixed mask: a test of its own takes the expectation")


def suited(strategy: GradientStrategy, net: Net) -> Net:
    """The net, or what is left of it where the strategy refuses; with the strategy's estimate."""
    if net.num_layers > 1 and refusal(strategy, Net(2, 1, 1, 2, leaves=False)):
        net = net._replace(num_layers=1)
    net = net._replace(leaves=not refusal(strategy, Net(2, 1, 1)))
    rnn, (input, hx) = net.rnn(strategy), net.data()
    unrolled = strategy.states(rnn, input, Carry(hx))
    torch.autograd.backward(net.loss_of(unrolled.output))
    return net._replace(estimate=tuple((unrolled.estimate or {}).items()))


def refusal(strategy: GradientStrategy, net: Net) -> str | None:
    """What the strategy says against a net; None where it takes it."""
    try:
        net.run(net.rnn(copy.deepcopy(strategy)), *net.data())
    except ValueError as error:
        return str(error) or type(error).__name__
    return None


def draws(strategy: GradientStrategy) -> bool:
    """Whether the strategy's gradient depends on the draw."""
    net = suited(strategy, Net(3, 20, 2))
    first = gradients(strategy, net)["weight_hh_l0"]
    return any(
        not torch.equal(gradients(strategy, net, draw=draw)["weight_hh_l0"], first)
        for draw in range(1, 5)
    )


def gradients(
    strategy: GradientStrategy,
    net: Net,
    dtype: torch.dtype = torch.float64,
    loss: Callable[[Tensor], Tensor] | None = None,
    draw: int = 0,
) -> Gradients:
    """What `.backward()` leaves in `.grad`, at a draw."""
    return nets.gradients(strategy, net, dtype, loss, draw=draw)


def without_leaves(expected: Gradients, net: Net) -> Gradients:
    """What the strategy is asked for: all, or the parameters' gradients only."""
    return {name: g for name, g in expected.items() if net.leaves or name not in ("input", "hx")}


def by_hand(
    strategy: GradientStrategy, net: Net, q: Tensor, q_h_n: Tensor | None = None
) -> tuple[Gradients, Tensor]:
    """The gradient and credit that the strategy promises for immediate credit q, by hand."""
    input, hx = net.data()
    mask = mask_of(strategy, net.num_steps)
    found, credit = masked_by_hand(net.rnn(), input, hx, mask, q, q_h_n)
    return without_leaves(found, net), credit


def random_tensor(*shape: int) -> Tensor:
    """The same normal numbers at every call, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def difference(actual: Tensor, expected: Tensor) -> float:
    """Relative difference."""
    return float((actual - expected).norm() / expected.norm())


def has_mask(strategy: GradientStrategy) -> bool:
    """Whether the strategy says what its mask is."""
    return type(strategy).mask is not GradientStrategy.mask


def is_linear(strategy: GradientStrategy) -> bool:
    """Whether the gradient of a sum of losses is the sum of their gradients."""
    return strategy.linear
