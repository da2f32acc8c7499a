"""The gradient from remembered steps is RTRL's, while the weights change and while they do not."""

import pytest
import torch

from bptt_lab.gradients import history
from bptt_lab.gradients.past import observed
from bptt_lab.gradients.rtrl import RTRL

from .contract import assert_same
from .nets import Net, collect

NETS = [
    Net(5, 12),
    Net(4, 12, leak=0.3, nonlinearity="sigmoid"),
    Net(6, 12, 1, nonlinearity="relu", leak=0.5, bias=False),
    Net(1, 12, nonlinearity="identity"),
]


def trained(net: Net, lengths: int | list[int], rate: float, blocks: int | None = None):
    """Train with RTRL, chunk by chunk; yield its gradient, the remembered one, and both M."""
    strategy = RTRL(block=blocks)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    carry, past = strategy.init_carry(rnn, net.batch_size)._replace(hx=hx.detach()), []
    for chunk in input.detach().split(lengths):
        past.append(history.remembered(observed(rnn, chunk, carry.hx)))
        output, carry = strategy.unroll(rnn, chunk, carry)
        output.retain_grad()
        rnn.zero_grad()
        (net.loss_of(output) + output[-1].sin().sum()).backward()
        found = torch.cat([g.view(net.hidden_size, -1) for g in list(collect(rnn).values())[:3]], 1)
        gradient = history.pull_back(past, net.leak, output.grad)
        yield found, gradient, carry.influence, history.influence(past, net.leak).flatten(2)
        with torch.no_grad():
            for parameter in rnn.parameters():
                parameter -= rate * parameter.grad.sign()


@pytest.mark.parametrize("lengths", [1, 5, 12, [4, 1, 7]], ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_is_rtrl_while_the_weights_change(net, lengths):
    for found, gradient, influence, M in trained(net, lengths, rate=0.05):
        assert_same({"g": gradient}, {"g": found}, "gradient")
        assert_same({"M": M}, {"M": influence}, "influence")


def test_the_weights_of_each_step_count(monkeypatch):
    monkeypatch.setattr(history, "remembered", lambda chunk: history.Steps(
        chunk.extended, chunk.slope, chunk.weights.hh))  # fmt: skip  # which the optimizer changes
    *_, (found, gradient, influence, M) = trained(NETS[0], 1, rate=0.05)
    assert (gradient - found).norm() > 1e-3 * found.norm()
    assert (M - influence).norm() > 1e-3 * influence.norm()


@pytest.mark.parametrize("size", [1, 3000])
def test_blocks_of_steps_change_nothing(monkeypatch, size):
    monkeypatch.setattr(history, "BLOCK_BYTES", size)
    *_, (_, _, influence, M) = trained(NETS[1], 5, rate=0.05)
    assert_same({"M": M}, {"M": influence}, "influence")
