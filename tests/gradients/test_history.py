"""The gradient from remembered steps is RTRL's, while the weights change and while they do not."""

import pytest
import torch

from bptt_lab.core.cell import Cell
from bptt_lab.gradients import history
from bptt_lab.gradients.rtrl import RTRL

from .contract import assert_same
from .nets import Net, collect

NETS = [
    Net(5, 12),
    Net(4, 12, leak=0.3, nonlinearity="sigmoid"),
    Net(6, 12, 1, nonlinearity="relu", leak=0.5, bias=False),
    Net(1, 12, nonlinearity="identity"),
]


def trained(net: Net, lengths: int | list[int], rate: float):
    """Train with RTRL, chunk by chunk; return its gradients, the remembered ones, and both M."""
    strategy, cell = RTRL(), Cell(net.nonlinearity, net.leak)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    carry = strategy.init_carry(rnn, net.batch_size)._replace(hx=hx.detach())
    chunks, losses, found, M, done = [], [], [], [], 0
    for chunk in input.detach().split(lengths):
        chunks.append(history.remembered(rnn, chunk, carry.hx))
        output, carry = strategy.unroll(rnn, chunk, carry)
        output.retain_grad()
        rnn.zero_grad()
        (net.loss_of(output) + output[-1].sin().sum()).backward()
        done += len(chunk)
        losses.append((done, output.grad))
        parts = [g.view(net.hidden_size, -1) for g in list(collect(rnn).values())[:3]]
        found.append(torch.cat(parts, 1))
        M.append((history.influence(history.history(chunks, cell)).flatten(2), carry.influence))
        with torch.no_grad():
            for parameter in rnn.parameters():
                parameter -= rate * parameter.grad.sign()
    past = history.history(chunks, cell)
    return history.pull_back(past, losses), torch.stack(found), M, past, losses


@pytest.mark.parametrize("lengths", [1, 5, 12, [4, 1, 7]], ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_is_rtrl_while_the_weights_change(net, lengths):
    actual, found, M, past, losses = trained(net, lengths, rate=0.05)
    assert_same({"g": actual}, {"g": found}, "gradient")
    for mine, rtrls in M:
        assert_same({"M": mine}, {"M": rtrls}, "influence")
    some = history.pull_back(past, losses[::2])
    assert_same({"g": some}, {"g": found[::2]}, "of some losses")


def test_the_weights_of_each_step_count(monkeypatch):
    def lively(rnn, input, hx):
        return history.Lived(input, hx[0], history.Weights(*rnn.all_weights[0]))

    monkeypatch.setattr(history, "remembered", lively)  # which the optimizer changes
    actual, found, *_ = trained(NETS[0], 1, rate=0.05)
    assert (actual - found).norm() > 1e-3 * found.norm()


@pytest.mark.parametrize("size", [1, 5])
def test_blocks_of_steps_change_nothing(monkeypatch, size):
    monkeypatch.setattr(history, "BLOCK", size)
    actual, found, M, *_ = trained(NETS[1], 1, rate=0.05)
    assert_same({"g": actual}, {"g": found}, "gradient")
    assert_same({"M": M[-1][0]}, {"M": M[-1][1]}, "influence")
