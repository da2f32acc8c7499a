"""UORO: its expectation over all signs, its traces across chunks, its draws."""

import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.random_factors import balance
from bptt_lab.gradients.uoro import UORO

from .contract import assert_identical, assert_same
from .expectation import all_signs, draws, expected_over_chunks, summed_over_chunks, with_signs
from .nets import Net

NETS = [
    Net(2, 3),
    Net(2, 4, leak=0.3),
    Net(2, 4, nonlinearity="relu"),
    Net(1, 6, nonlinearity="sigmoid", leak=0.5, bias=False),
    Net(3, 3, nonlinearity="identity"),
]


def chunkings(net: Net) -> list[list[int]]:
    T = net.num_steps
    return [[T], [1] * T, [1, T - 1], [2, *[1] * (T - 2)]]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_expectation_over_all_signs_is_the_full_gradient(net):
    """Within a chunk, and summed over chunks with the carry."""
    for chunk_lengths in chunkings(net):
        mean, full = expected_over_chunks(UORO(), net.hidden_size, net, chunk_lengths)
        assert_same(mean, full, f"expectation, chunks of {chunk_lengths}", 1e-12)


def test_sequences_have_traces_of_their_own():
    """A batch with given signs is the sum of its sequences run alone with theirs."""
    net = Net(3, 6, batch_size=3, leak=0.5)
    input = net.data()[0].detach()
    signs = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(1)).sign().double()
    together = summed_over_chunks(with_signs(UORO(), signs), net, input, [2, 4])
    alone = [
        summed_over_chunks(
            with_signs(UORO(), signs[:, n : n + 1]), net, input[:, n : n + 1], [2, 4]
        )
        for n in range(3)
    ]
    expected = {name: sum(g[name] for g in alone) for name in together}
    assert_same(together, expected, "sequences apart", 1e-12)


def test_equals_its_equations_step_by_step():
    """Eq. (2) to (5) written out for one sequence, th~ and all."""
    net = Net(3, 7, 1, leak=0.4)
    input = net.data()[0].detach()
    nu = torch.randn(7, 1, 3, generator=torch.Generator().manual_seed(1)).sign().double()
    actual = summed_over_chunks(with_signs(UORO(), nu), net, input, [3, 1, 3])
    rnn = net.rnn(Full())
    rows = rnn(input)[0].detach()[:, 0].requires_grad_()
    net.loss_of(rows).backward()
    W = rnn.weight_hh_l0.detach()
    h_tm1, h, th = torch.zeros(3).double(), torch.zeros(3).double(), None
    total = 0
    for x, h_t, q, sign in zip(input[:, 0], rows.detach(), rows.grad, nu[:, 0], strict=True):
        phi = (h_t - 0.6 * h_tm1) / 0.4
        slope = 0.4 * (1 - phi**2)
        J = 0.6 * torch.eye(3).double() + slope[:, None] * W
        immediate = torch.outer(slope * sign, torch.cat([x, h_tm1, torch.ones(1).double()]))
        rho1 = (immediate.norm() / sign.norm()).sqrt()
        if th is None:
            h, th = rho1 * sign, immediate / rho1
        else:
            rho0 = (th.norm() / (J @ h).norm()).sqrt()
            h, th = rho0 * J @ h + rho1 * sign, th / rho0 + immediate / rho1
        total = total + (q @ h) * th
        h_tm1 = h_t
    ih, hh, bias = total.split([3, 3, 1], 1)
    expected = {"weight_ih_l0": ih, "weight_hh_l0": hh}
    expected |= {"bias_ih_l0": bias[:, 0], "bias_hh_l0": bias[:, 0]}
    assert_same(actual, expected, "step by step", 1e-12)


@pytest.mark.slow
def test_mean_over_draws_comes_near_full():
    """At H = 16, within the error that the draws' own spread allows."""
    net = Net(16, 10, 1)
    count = 400
    found = draws(UORO(), net, count)
    full = draws(Full(), net, 1)[0]
    error = (found.mean(0) - full).square().sum()
    allowed = found.var(0).sum() / count
    assert 0.3 * allowed < error < 2 * allowed


def test_zero_traces_are_safe():
    """Dead units, no input, no bias: nothing is not a number, and the expectation holds."""
    net = Net(2, 4, nonlinearity="relu", bias=False)
    signs = all_signs(4, 2)
    for input in (torch.zeros(4, 1, 3).double(), -net.data()[0].detach()[:, :1]):
        many = input.expand(-1, signs.shape[1], -1).clone()
        many[:2] = 0  # nothing at all happens at first
        mean = summed_over_chunks(with_signs(UORO(), signs), net, many, [4])
        full = summed_over_chunks(Full(), net, many, [4])
        assert all(g.isfinite().all() for g in mean.values())
        assert_same(mean, full, "zeros", 1e-12)


def test_balance_makes_factors_equal_or_drops_both():
    rho, inverse = balance(torch.tensor([4.0, 0.0, 3.0, 0.0]), torch.tensor([1.0, 2.0, 0.0, 0.0]))
    assert rho.tolist() == [2, 0, 0, 0] and inverse.tolist() == [0.5, 0, 0, 0]


def test_same_draw_same_gradient_other_draw_another():
    net = Net(4, 9)
    input = net.data()[0].detach()
    strategy, lengths = UORO(seed=3), [4, 5]
    first, again = (summed_over_chunks(strategy, net, input, lengths) for _ in range(2))
    assert_identical(first, again, "the same draws")
    second = summed_over_chunks(strategy, net, input, lengths, draw=2)
    assert not torch.equal(first["weight_hh_l0"], second["weight_hh_l0"])
    other_seed = summed_over_chunks(UORO(seed=4), net, input, lengths)
    assert not torch.equal(other_seed["weight_hh_l0"], first["weight_hh_l0"])


def test_chunks_of_a_sequence_have_signs_of_their_own():
    strategy = UORO()
    rnn = VanillaRNN(3, 4, gradient=strategy)
    seen = []
    drawn = strategy.signs
    strategy.signs = lambda *of: seen.append(drawn(*of)) or seen[-1]
    carry = strategy.init_carry(rnn, 2)
    for _ in range(2):
        _, carry = strategy.unroll(rnn, torch.randn(5, 2, 3), carry)
    assert not torch.equal(*seen)
    assert not torch.equal(seen[0][:, 0], seen[0][:, 1])
    assert set(torch.cat(seen).flatten().tolist()) == {-1.0, 1.0}


def test_influence_is_plain_and_left_alone():
    """Backward passes, however many, find the influence as it was."""
    strategy = UORO()
    rnn = VanillaRNN(3, 4, gradient=strategy, dtype=torch.float64)
    input = torch.randn(6, 2, 3, dtype=torch.float64)
    _, carry = strategy.unroll(rnn, input, strategy.init_carry(rnn, 2))
    before = [trace.clone() for trace in carry.influence]
    output, _ = strategy.unroll(rnn, input, carry)
    output.sum().backward(retain_graph=True)
    once = rnn.weight_hh_l0.grad.clone()
    output.sum().backward()
    assert torch.equal(rnn.weight_hh_l0.grad, 2 * once)
    assert type(carry.influence) is tuple
    for trace, expected in zip(carry.influence, before, strict=True):
        assert torch.equal(trace, expected) and len(trace) == 2 and not trace.requires_grad


@pytest.mark.parametrize("layers, input", [(2, False), (1, True)])
def test_refuses_what_it_cannot_do(layers, input):
    rnn = VanillaRNN(3, 4, layers, gradient=UORO())
    with pytest.raises(ConfigError, match="use gradient=full"):
        rnn(torch.randn(5, 2, 3, requires_grad=input))
