"""`matrix`: the influence matrix that each past-facing rule's influence stands for."""

import pytest
import torch

from bptt_lab.gradients.kf_rtrl import KFRTRL
from bptt_lab.gradients.past import PastFacing
from bptt_lab.gradients.rflo import RFLO
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.snap1 import SnAp1
from bptt_lab.gradients.uoro import UORO

from .contract import assert_same
from .expectation import all_signs, with_signs
from .nets import Net


def after(strategy, net, input, lengths):
    """What a rule's influence stands for after chunks from a zero state, (N, H, H, J)."""
    rnn = net.rnn(strategy)
    carry = strategy.init_carry(rnn, input.shape[1])
    for chunk in input.split(lengths):
        _, carry = strategy.unroll(rnn, chunk, carry)
    return strategy.matrix(carry.influence)


@pytest.mark.parametrize("leak", [1.0, 0.4])
def test_rtrls_is_autograds(leak):
    net = Net(3, 5, 2, leak=leak)
    input, rnn = net.data()[0].detach(), net.rnn()
    M = after(RTRL(), net, input, [2, 3])
    output, _ = rnn(input)
    for n in range(2):
        for i in range(3):
            g = torch.autograd.grad(output[-1, n, i], list(rnn.parameters()), retain_graph=True)
            expected = torch.cat([g[0], g[1], g[2][:, None]], 1)  # [a, j]
            assert_same({"M": M[n, i]}, {"M": expected}, "matrix", 1e-12)


@pytest.mark.parametrize("rule, per_step", [(UORO, 2), (KFRTRL, 2)])
@pytest.mark.parametrize("lengths", [[4], [1, 3]], ids=str)
def test_the_random_ones_mean_is_rtrls(rule, per_step, lengths):
    """Over all signs."""
    net = Net(2, 4, leak=0.4)
    input, signs = net.data()[0].detach()[:, :1], all_signs(4, per_step)
    many = input.expand(-1, signs.shape[1], -1)
    mean = after(with_signs(rule(), signs), net, many, lengths).mean(0, keepdim=True)
    assert_same({"M": mean}, {"M": after(RTRL(), net, input, lengths)}, "mean", 1e-12)


@pytest.mark.parametrize("strategy", [SnAp1(), RFLO()], ids=repr)
def test_the_diagonal_ones_have_no_influence_on_other_units(strategy):
    """At the first step it is all of M_t; later each gradient is the sum of q_t M_t."""
    net = Net(4, 6, 3, leak=0.4)
    input = net.data()[0].detach()
    first = after(strategy, net, input[:1], 1)
    assert_same({"M": first}, {"M": after(RTRL(), net, input[:1], 1)}, "first step", 1e-12)
    rnn = net.rnn(strategy)
    carry, total = strategy.init_carry(rnn, 3), 0
    for x in input:
        output, carry = strategy.unroll(rnn, x[None], carry)
        output.square().sum().backward()
        M = strategy.matrix(carry.influence)
        total = total + torch.einsum("ni,niaj->aj", 2 * output[0].detach(), M)
    diagonal = torch.eye(4, dtype=torch.bool)
    assert (M[:, ~diagonal] == 0).all() and (M[:, diagonal] != 0).all()
    grads = [p.grad for p in rnn.all_weights[0]]
    assert_same({"g": total}, {"g": torch.cat([*grads[:2], grads[2][:, None]], 1)}, "sum", 1e-12)


def test_a_rule_without_one_says_so():
    with pytest.raises(NotImplementedError, match="stands for no influence matrix"):
        PastFacing.matrix(RTRL(), None)
