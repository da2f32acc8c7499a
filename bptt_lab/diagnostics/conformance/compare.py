"""What the checks share: how gradients are compared, and what is expected of a strategy.

`Failed` and `Skipped` are Python's own words for these, so that every test runner knows them.
"""

import copy
from collections.abc import Iterator
from unittest import SkipTest

import torch
from torch import Tensor

from bptt_lab.diagnostics.conformance.nets import Gradients, Net, gradients, run
from bptt_lab.gradients.base import GradientStrategy

VISIBLE = 1e-2  # relative difference that no rounding explains


class Failed(AssertionError):
    """The strategy breaks the contract; the message says how."""


class Skipped(SkipTest):
    """The check cannot be made of this strategy; the message says why."""


def require(condition: object, reason: str) -> None:
    """Raise Failed with the reason unless the condition holds."""
    if not condition:
        raise Failed(reason)


def assert_same(
    actual: Gradients, expected: Gradients, what: str, tolerance: float = 1e-10
) -> None:
    """Raise Failed unless each tensor is equal to `tolerance`, relative to its largest entry.

    With a tolerance of 0 that is to the last bit.
    """
    require(actual.keys() == expected.keys(), f"{what}: {sorted(actual)}, not {sorted(expected)}")
    floor = 1e-14 * max(largest_entry(g) for g in expected.values()) if tolerance else 0
    for name, wanted in expected.items():
        shape = tuple(actual[name].shape)
        require(shape == wanted.shape, f"{what}: {name} is {shape}, not {tuple(wanted.shape)}")
        allowed = tolerance * largest_entry(wanted) + floor
        error = largest_entry(actual[name] - wanted)
        require(error <= allowed, f"{what}: {name} is off by {error:.1e}, allowed {allowed:.1e}")


def largest_entry(tensor: Tensor) -> float:
    """The largest modulus."""
    return float(tensor.detach().abs().max())


def difference(actual: Tensor, expected: Tensor) -> float:
    """Relative difference."""
    return float((actual - expected).norm() / expected.norm())


def full_mask(num_steps: int) -> Tensor:
    """M[t, s] = 1 iff s <= t."""
    return torch.ones(num_steps, num_steps, dtype=torch.bool).tril()


def stated_mask(strategy: GradientStrategy, num_steps: int) -> Tensor | None:
    """The mask that the strategy states; None where it states none."""
    try:
        return strategy.mask(num_steps)
    except NotImplementedError:
        return None


def mask_of(strategy: GradientStrategy, num_steps: int) -> Tensor:
    """The mask whose gradient the strategy promises."""
    mask = full_mask(num_steps) if strategy.exact_within_chunk else stated_mask(strategy, num_steps)
    if mask is None:
        raise Skipped(f"{strategy} is neither exact nor has a fixed mask: test it against its own")
    return mask


def suited(strategy: GradientStrategy, net: Net) -> Net:
    """The net, or what is left of it where the strategy refuses; with the strategy's estimate."""
    if net.num_layers > 1 and refusal(strategy, Net(2, 1, 1, 2, leaves=False)):
        net = net._replace(num_layers=1)
    net = net._replace(leaves=not refusal(strategy, Net(2, 1, 1)))
    unrolled = run(net.rnn(strategy), *net.data())
    torch.autograd.backward(net.loss_of(unrolled.output))
    return net._replace(estimate=tuple((unrolled.estimate or {}).items()))


def refusal(strategy: GradientStrategy, net: Net) -> str | None:
    """What the strategy says against a net; None where it takes it."""
    rnn, (input, hx) = net.rnn(copy.deepcopy(strategy)), net.data()
    try:
        run(rnn, input, hx)
    except ValueError as error:
        return str(error) or type(error).__name__
    return None


def draws(strategy: GradientStrategy) -> bool:
    """Whether some of six draws give different gradients."""
    net = suited(strategy, Net(3, 20, 2))
    return differ(gradients(strategy, net, draw=draw) for draw in range(6))


def differ(found: Iterator[Gradients]) -> bool:
    """Whether some of the gradients of W_hh are not the first; no more are found than it takes."""
    first = next(found)["weight_hh_l0"]
    return any(not torch.equal(other["weight_hh_l0"], first) for other in found)


def random_tensor(*shape: int) -> Tensor:
    """The same normal numbers at every call, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
