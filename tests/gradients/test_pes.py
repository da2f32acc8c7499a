"""Persistent evolution strategies: each draw's gradient, their mean and variance over chunks."""

import pytest
import torch

from bptt_lab.gradients.pes import PES

from .directions import every, found, influences, parts, shape_of
from .nets import Net
from .test_forward_gradient import LENGTHS, NETS


@pytest.mark.parametrize("net", NETS, ids=str)
def test_each_draw_is_the_slope_along_all_directions_times_their_sum(net):
    """(sum_i a_i . eps_i) sum_i eps_i over the chunks so far; mean over K, sum over N."""
    drawn = torch.randn(3, 1, 3, 2, *shape_of(net), generator=torch.Generator().manual_seed(1))
    eps = drawn.sign().double()
    gradients, _ = found(PES(pairs=2), net, LENGTHS, eps)
    slopes = torch.einsum("cinhj,isnkhj->csnk", parts(net, LENGTHS), eps)
    wanted = torch.einsum("csnk,csnkhj->cshj", slopes, eps.cumsum(0)) / 2
    torch.testing.assert_close(gradients, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "lengths"),
    [
        (Net(1, 3, 1, leak=0.5, bias=False), [2, 1]),
        pytest.param(Net(1, 3, 1), [1, 2], marks=pytest.mark.slow),
        pytest.param(Net(1, 4, 1, bias=False), [1, 2, 1], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_mean_and_variance_over_all_signs(net, lengths):
    """The gradient and RTRL's influence; Eq. (4), of each chunk, with one pair."""
    (H, J), c = shape_of(net), torch.arange(1, len(lengths) + 1)
    eps = every(len(lengths), 1, 1, H, J).transpose(0, 1)
    gradients, M = found(PES(), net, lengths, eps)
    a = parts(net, lengths)
    torch.testing.assert_close(gradients.mean(1), a.sum((1, 2)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(M, influences(net, lengths), rtol=1e-12, atol=1e-12)
    own, whole = a.square().sum((1, 2, 3, 4)), a.sum(1).square().sum((1, 2, 3))
    formula = (c * H * J - 2) * own + whole
    variance = gradients.var(1, correction=0).sum((1, 2))
    torch.testing.assert_close(variance, formula, rtol=1e-10, atol=0)


def test_directions_are_drawn_in_every_chunk_and_added_up():
    """Another for each sequence; the sum begins anew after a reset."""
    net, strategy = Net(4, 6), PES(pairs=2)
    rnn, input = net.rnn(strategy), net.data()[0].detach()
    carry, seen = None, []
    for x in input.split(2):
        _, carry = rnn.unroll(x, carry)
        seen.append(carry.influence[0])
    first, second, third = seen[0], seen[1] - seen[0], seen[2] - seen[1]
    for eps_NKHJ in (first, second, third):
        assert eps_NKHJ.shape == (3, 2, 4, 8) and set(eps_NKHJ.flatten().tolist()) == {-1.0, 1.0}
    every_one = torch.stack([first, second, third]).flatten(0, 2)
    assert len({tuple(eps.flatten().tolist()) for eps in every_one}) == 18
    _, again = rnn.unroll(input[:2], strategy.init_carry(rnn, 3, carry))
    assert set(again.influence[0].flatten().tolist()) == {-1.0, 1.0}
    assert not torch.equal(again.influence[0], first)
    for seed in (0, 1):
        _, other = net.rnn(PES(pairs=2, seed=seed)).unroll(input[:2])
        assert torch.equal(other.influence[0], first) == (seed == 0)
