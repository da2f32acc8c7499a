"""KF-RTRL: its expectation over all signs, its variance beside UORO's, its draws."""

import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.kf_rtrl import KFRTRL
from bptt_lab.gradients.uoro import UORO

from .contract import assert_identical, assert_same
from .expectation import all_signs, draws, expected_over_chunks, summed_over_chunks, with_signs
from .nets import Net

NETS = [
    Net(2, 3),
    Net(2, 5, leak=0.3),
    Net(3, 4, nonlinearity="relu"),
    Net(1, 5, nonlinearity="sigmoid", leak=0.5, bias=False),
    Net(5, 4, nonlinearity="identity"),
]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_expectation_over_all_signs_is_the_full_gradient(net):
    """Within a chunk, and summed over chunks with the carry."""
    T = net.num_steps
    for chunk_lengths in ([T], [1] * T, [1, T - 1], [2, *[1] * (T - 2)]):
        mean, full = expected_over_chunks(KFRTRL(), 2, net, chunk_lengths)
        assert_same(mean, full, f"expectation, chunks of {chunk_lengths}", 1e-12)


def test_sequences_have_factors_of_their_own():
    """A batch with given signs is the sum of its sequences run alone with theirs."""
    net = Net(3, 6, batch_size=3, leak=0.5)
    input = net.data()[0].detach()
    signs = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(1)).sign().double()
    together = summed_over_chunks(with_signs(KFRTRL(), signs), net, input, [2, 4])
    alone = [
        summed_over_chunks(
            with_signs(KFRTRL(), signs[:, n : n + 1]), net, input[:, n : n + 1], [2, 4]
        )
        for n in range(3)
    ]
    expected = {name: sum(g[name] for g in alone) for name in together}
    assert_same(together, expected, "sequences apart", 1e-12)


def test_equals_its_equations_step_by_step():
    """Eq. (2) to (5) written out for one sequence."""
    net = Net(3, 7, 1, leak=0.4)
    input = net.data()[0].detach()
    signs = torch.randn(7, 1, 2, generator=torch.Generator().manual_seed(1)).sign().double()
    actual = summed_over_chunks(with_signs(KFRTRL(), signs), net, input, [3, 1, 3])
    rnn = net.rnn(Full())
    rows = rnn(input)[0].detach()[:, 0].requires_grad_()
    net.loss_of(rows).backward()
    W = rnn.weight_hh_l0.detach()
    h_tm1, total, A, B = torch.zeros(3).double(), 0, None, None
    for x, h_t, q, (c0, c1) in zip(input[:, 0], rows.detach(), rows.grad, signs[:, 0], strict=True):
        phi = (h_t - 0.6 * h_tm1) / 0.4
        slope = 0.4 * (1 - phi**2)
        J = 0.6 * torch.eye(3).double() + slope[:, None] * W
        xhat = torch.cat([x, h_tm1, torch.ones(1).double()])
        p1 = (slope.norm() / xhat.norm()).sqrt()
        if A is None:
            A, B = c1 * p1 * xhat, c1 / p1 * slope.diag()
        else:
            p0 = ((J @ B).norm() / A.norm()).sqrt()
            A, B = c0 * p0 * A + c1 * p1 * xhat, c0 / p0 * J @ B + c1 / p1 * slope.diag()
        total = total + torch.outer(q @ B, A)
        h_tm1 = h_t
    ih, hh, bias = total.split([3, 3, 1], 1)
    expected = {"weight_ih_l0": ih, "weight_hh_l0": hh}
    expected |= {"bias_ih_l0": bias[:, 0], "bias_hh_l0": bias[:, 0]}
    assert_same(actual, expected, "step by step", 1e-12)


@pytest.mark.slow
def test_variance_is_several_times_below_uoros():
    """At H = 16; and its mean comes near full within what its own spread allows."""
    net, count = Net(16, 10, 1), 300
    full = draws(Full(), net, 1)[0]
    found = {rule: draws(rule(), net, count) for rule in (KFRTRL, UORO)}
    variance = {rule: (g - full).square().sum(1).mean() for rule, g in found.items()}
    assert variance[UORO] > 8 * variance[KFRTRL]
    error = (found[KFRTRL].mean(0) - full).square().sum()
    assert 0.3 < error / (variance[KFRTRL] / count) < 2


def test_zero_factors_are_safe():
    """Dead units, no input, no bias: nothing is not a number, and the expectation holds."""
    net = Net(2, 4, nonlinearity="relu", bias=False)
    signs = all_signs(4, 2)
    for input in (torch.zeros(4, 1, 3).double(), -net.data()[0].detach()[:, :1]):
        many = input.expand(-1, signs.shape[1], -1).clone()
        many[:2] = 0  # nothing at all happens at first
        mean = summed_over_chunks(with_signs(KFRTRL(), signs), net, many, [4])
        full = summed_over_chunks(Full(), net, many, [4])
        assert all(g.isfinite().all() for g in mean.values())
        assert_same(mean, full, "zeros", 1e-12)


def test_same_draw_same_gradient_other_draw_another():
    net = Net(4, 9)
    input = net.data()[0].detach()
    strategy, lengths = KFRTRL(seed=3), [4, 5]
    first, again = (summed_over_chunks(strategy, net, input, lengths) for _ in range(2))
    assert_identical(first, again, "the same draws")
    second = summed_over_chunks(strategy, net, input, lengths, draw=2)
    assert not torch.equal(first["weight_hh_l0"], second["weight_hh_l0"])
    other_seed = summed_over_chunks(KFRTRL(seed=4), net, input, lengths)
    assert not torch.equal(other_seed["weight_hh_l0"], first["weight_hh_l0"])


def test_influence_is_plain_and_left_alone():
    """Backward passes, however many, find the influence as it was."""
    strategy = KFRTRL()
    rnn = VanillaRNN(3, 4, gradient=strategy, dtype=torch.float64)
    input = torch.randn(6, 2, 3, dtype=torch.float64)
    _, carry = strategy.unroll(rnn, input, strategy.init_carry(rnn, 2))
    before = [factor.clone() for factor in carry.influence]
    output, _ = strategy.unroll(rnn, input, carry)
    output.sum().backward(retain_graph=True)
    once = rnn.weight_hh_l0.grad.clone()
    output.sum().backward()
    assert torch.equal(rnn.weight_hh_l0.grad, 2 * once)
    assert type(carry.influence) is tuple
    for factor, expected in zip(carry.influence, before, strict=True):
        assert torch.equal(factor, expected) and len(factor) == 2 and not factor.requires_grad


@pytest.mark.parametrize("layers, input", [(2, False), (1, True)])
def test_refuses_what_it_cannot_do(layers, input):
    rnn = VanillaRNN(3, 4, layers, gradient=KFRTRL())
    with pytest.raises(ConfigError, match="use gradient=full"):
        rnn(torch.randn(5, 2, 3, requires_grad=input))
