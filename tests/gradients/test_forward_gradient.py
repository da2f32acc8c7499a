"""Forward gradients: each draw's gradient, their mean and their variance; what is carried."""

import pytest
import torch

from bptt_lab.gradients.forward_gradient import ForwardGradient

from .directions import every, found, influences, parts, shape_of
from .nets import Net

NETS = [
    Net(4, 6),
    Net(3, 6, leak=0.3, bias=False),
    Net(4, 6, nonlinearity="relu"),
    Net(2, 6, nonlinearity="identity", leak=0.5),
]
LENGTHS = [2, 1, 3]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_each_draw_is_the_slope_along_a_direction_times_the_direction(net):
    """(grad_n . v) v, a chunk's grad_n with all that its past has done; mean over K, sum over N."""
    drawn = torch.randn(1, 1, 3, 2, *shape_of(net), generator=torch.Generator().manual_seed(1))
    v_NKHJ = drawn.sign().double()
    gradients, _ = found(ForwardGradient(directions=2), net, LENGTHS, v_NKHJ)
    slopes = torch.einsum("cinhj,dsnkhj->csnk", parts(net, LENGTHS), v_NKHJ)
    wanted = torch.einsum("csnk,dsnkhj->cshj", slopes, v_NKHJ) / 2
    torch.testing.assert_close(gradients, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (Net(1, 4, 1), 1),
        (Net(1, 4, 1, leak=0.5, bias=False), 2),
        (Net(1, 4, 2, bias=False), 1),
        pytest.param(Net(2, 4, 1, bias=False), 1, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_mean_and_variance_over_all_signs(net, count):
    """The gradient and RTRL's influence; Eq. (3), of each chunk and of the sum of chunks."""
    lengths, (H, J) = [1, 2, 1], shape_of(net)
    v = every(net.batch_size, count, H, J)
    strategy = ForwardGradient(directions=count)
    gradients, M = found(strategy, net, lengths, v[None])
    grad = parts(net, lengths).sum(1)
    torch.testing.assert_close(gradients.mean(1), grad.sum(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(M, influences(net, lengths), rtol=1e-12, atol=1e-12)
    for mine, of_n in ((gradients, grad), (gradients.sum(0, True), grad.sum(0, True))):
        variance = mine.var(1, correction=0).sum((1, 2))
        formula = (H * J - 1) / count * of_n.square().sum((1, 2, 3))
        torch.testing.assert_close(variance, formula, rtol=1e-10, atol=0)


def test_directions_are_signs_of_a_sequence_and_last_as_long():
    """Another for each sequence, kept over chunks; another after a reset, and with the seed."""
    net, strategy = Net(4, 6), ForwardGradient(directions=2)
    rnn, input = net.rnn(strategy), net.data()[0].detach()
    _, carry = rnn.unroll(input[:2])
    v_NKHJ, hdot_NKH = carry.influence
    assert v_NKHJ.shape == (3, 2, 4, 8) and hdot_NKH.shape == (3, 2, 4)
    assert set(v_NKHJ.flatten().tolist()) == {-1.0, 1.0}
    assert len({tuple(v.flatten().tolist()) for v in v_NKHJ.flatten(0, 1)}) == 6
    _, after = rnn.unroll(input[2:], carry)
    assert torch.equal(after.influence[0], v_NKHJ)
    _, again = rnn.unroll(input[:2], strategy.init_carry(rnn, 3, after))
    assert not torch.equal(again.influence[0], v_NKHJ)
    for seed in (0, 1):
        _, other = net.rnn(ForwardGradient(directions=2, seed=seed)).unroll(input[:2])
        assert torch.equal(other.influence[0], v_NKHJ) == (seed == 0)
