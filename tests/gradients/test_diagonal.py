"""SnAp-1 and RFLO: each equal to autograd with the Jacobian that it has in the true one's place."""

import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.core.random import generator
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rflo import RFLO
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.snap1 import SnAp1
from bptt_lab.gradients.truncated import Truncated

from .contract import assert_same
from .nets import PHI, Net, collect
from .test_rtrl import over_chunks

NETS = [
    Net(5, 12),
    Net(4, 12, leak=0.5, nonlinearity="sigmoid"),
    Net(6, 12, 1, nonlinearity="relu", leak=0.3, bias=False),
    Net(1, 12, leak=0.9),
]


def with_jacobian(net, own, feedback=None):
    """Autograd over a step whose value is the true one, and whose Jacobian is `own`'s.

    `own(W_hh)` is the part of W_hh through which h_{t-1} has its past; the rest sees a constant.
    """
    rnn, (input, hx) = net.rnn(), net.data()
    W_ih, W_hh, *biases = rnn.all_weights[0]
    h, output = hx[0].detach(), []
    for x in input.detach():
        past = h @ own(W_hh).detach().t()
        a = x @ W_ih.t() + h.detach() @ W_hh.t() + past - past.detach() + sum(biases)
        h = (1 - net.leak) * h + net.leak * PHI[net.nonlinearity](a)
        output.append(h)
    states = torch.stack(output)
    leaf = states.detach().requires_grad_()
    net.loss_of(leaf).backward()
    q = leaf.grad if feedback is None else leaf.grad @ feedback.t()
    states.backward(q)
    return collect(rnn)


@pytest.mark.parametrize("lengths", [12, 1, 5], ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_snap1_is_autograd_with_the_jacobians_diagonal(net, lengths):
    expected = with_jacobian(net, lambda W: W.diagonal().diag())
    assert_same(over_chunks(SnAp1(), net, lengths)[0], expected, "snap1")


@pytest.mark.parametrize("lengths", [12, 1, 5], ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_rflo_is_autograd_without_the_recurrent_part(net, lengths):
    expected = with_jacobian(net, torch.zeros_like)
    assert_same(over_chunks(RFLO(), net, lengths)[0], expected, "rflo")


@pytest.mark.parametrize("lengths", [12, 5], ids=str)
def test_rflo_with_random_feedback_is_a_fixed_matrix_times_q(lengths):
    net = Net(5, 12, leak=0.4)
    B = torch.randn(5, 5, generator=generator(3, "rflo feedback", 5), dtype=torch.float64) / 5**0.5
    strategy = RFLO(feedback="random", seed=3)
    expected = with_jacobian(net, torch.zeros_like, B)
    assert_same(over_chunks(strategy, net, lengths)[0], expected, "random feedback")
    other, _ = over_chunks(RFLO(feedback="random", seed=4), net, lengths)
    assert not torch.allclose(other["weight_hh_l0"], expected["weight_hh_l0"], rtol=0.1)


@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_snap1_is_rtrl_where_w_hh_is_diagonal(monkeypatch, leak):
    net = Net(5, 12, leak=leak)
    make = Net.rnn

    def diagonal(self, strategy=None, *args):
        rnn = make(self, strategy, *args)
        with torch.no_grad():
            rnn.weight_hh_l0.copy_(rnn.weight_hh_l0.diagonal().diag() * 3)
        return rnn

    monkeypatch.setattr(Net, "rnn", diagonal)
    expected, carry = over_chunks(RTRL(), net, 5)
    actual, own = over_chunks(SnAp1(), net, 5)
    assert_same(actual, expected, "diagonal W_hh")
    M = carry.influence.view(3, 5, 5, -1).diagonal(dim1=1, dim2=2).transpose(1, 2)
    assert_same({"e": own.influence}, {"e": M}, "diagonal W_hh, influence")


def test_rflo_at_leak_1_is_lag_1():
    net = Net(5, 12)
    expected, _ = over_chunks(Truncated(k=1, mode="lag"), net, 12)
    assert_same(over_chunks(RFLO(), net, 5)[0], expected, "leak = 1")
    leaky = Net(5, 12, leak=0.5)
    expected, _ = over_chunks(Truncated(k=1, mode="lag"), leaky, 12)
    actual, _ = over_chunks(RFLO(), leaky, 5)
    assert not torch.allclose(actual["weight_hh_l0"], expected["weight_hh_l0"], rtol=0.01)


@pytest.mark.parametrize("strategy", [SnAp1(), RFLO(), RFLO(feedback="random")], ids=repr)
def test_credit_gives_the_gradient(strategy):
    """slope times the credit, with the inputs: the gradient of a first chunk."""
    net = Net(5, 8, 2, leak=0.5)
    actual, _ = over_chunks(strategy, net, 8)
    rnn, (input, hx) = net.rnn(Full()), net.data()
    output, _ = rnn(input, hx)
    (q,) = torch.autograd.grad(net.loss_of(output), output)
    credit = strategy.credit(rnn, input.detach(), hx.detach(), q)[0]
    states = torch.cat([hx, output]).detach()
    y = (states[1:] - 0.5 * states[:-1]) / 0.5
    delta = 0.5 * (1 - y**2) * credit
    expected = torch.einsum("lnh,lnk->hk", delta, states[:-1])
    assert_same({"W": actual["weight_hh_l0"]}, {"W": expected}, "credit")


def test_repr_and_refusals():
    assert repr(RFLO()) == "RFLO(feedback='symmetric')"
    assert repr(RFLO(feedback="random", seed=2)) == "RFLO(feedback='random', seed=2)"
    for strategy in (SnAp1(), RFLO()):
        with pytest.raises(ValueError, match="num_layers=2: must be 1"):
            VanillaRNN(2, 3, 2, gradient=strategy)(torch.zeros(4, 1, 2))
