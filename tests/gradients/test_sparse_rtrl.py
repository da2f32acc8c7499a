"""Sparse RTRL: RTRL with masked Jacobians, written plainly; what its mask is; its two ends."""

from itertools import pairwise

import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import sparse_rtrl
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.snap1 import SnAp1
from bptt_lab.gradients.sparse_rtrl import SparseRTRL

from .contract import assert_same
from .nets import PHI, Net
from .test_rtrl import over_chunks

NETS = [
    Net(8, 12),
    Net(7, 12, leak=0.5, nonlinearity="sigmoid"),
    Net(9, 12, 1, nonlinearity="relu", leak=0.3, bias=False),
    Net(1, 12, leak=0.9),
]


def by_hand(net, mask):
    """The gradient (H, J), and M at the end (N, H, H, J): Eq. (1) and (2), entry by entry."""
    rnn, (input, hx) = net.rnn(Full()), net.data()
    rows = rnn(input.detach(), hx.detach())[0].detach().requires_grad_()
    net.loss_of(rows).backward()
    W_ih, W_hh, *biases = (p.detach() for p in rnn.all_weights[0])
    H, phi, leak = net.hidden_size, PHI[net.nonlinearity], net.leak
    total, after = 0, []
    for n in range(input.shape[1]):
        h, M = hx[0, n].detach(), None
        for x, h_t, q in zip(
            input[:, n].detach(), rows[:, n].detach(), rows.grad[:, n], strict=True
        ):
            a = (W_ih @ x + W_hh @ h + sum(biases)).requires_grad_()
            (slope,) = torch.autograd.grad(leak * phi(a).sum(), a)
            J = ((1 - leak) * torch.eye(H).double() + slope[:, None] * W_hh) * mask
            extended = torch.cat([x, h, *([torch.ones(1).double()] if biases else [])])
            M = (
                torch.zeros(H, H, len(extended)).double()
                if M is None
                else torch.einsum("ik,kaj->iaj", J, M)
            )
            for i in range(H):
                M[i, i] += slope[i] * extended
            total = total + torch.einsum("i,iaj->aj", q, M)
            h = h_t
        after.append(M)
    return total, torch.stack(after)


def as_one(gradients):
    """(H, J), of the parameters' gradients."""
    ih, hh, *bias = gradients.values()
    return torch.cat([ih, hh, *(b[:, None] for b in bias[:1])], 1)


@pytest.fixture(params=["dense", "gathered"])
def products(request, monkeypatch):
    """Which kind of product a step is, whatever H and k."""
    monkeypatch.setattr(sparse_rtrl, "gathers", lambda k, hidden_size: request.param == "gathered")


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_is_rtrl_with_masked_jacobians(net, k):
    strategy = SparseRTRL(k=k, seed=2)
    total, M = by_hand(net, strategy.pattern(net.hidden_size))
    for lengths in (12, 1, [7, 1, 4]):
        gradients, carry = over_chunks(strategy, net, lengths)
        assert_same({"g": as_one(gradients)}, {"g": total}, f"k={k}, chunks of {lengths}", 1e-10)
        assert_same({"M": strategy.matrix(carry.influence)}, {"M": M}, "influence", 1e-10)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("lengths", [1, 5], ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_from_snap1_to_rtrl(net, lengths):
    none, _ = over_chunks(SparseRTRL(k=0), net, lengths)
    assert_same(none, over_chunks(SnAp1(), net, lengths)[0], "k = 0", 1e-12)
    exact, _ = over_chunks(RTRL(), net, lengths)
    for k in (net.hidden_size, net.hidden_size + 3):
        assert_same(over_chunks(SparseRTRL(k=k), net, lengths)[0], exact, f"k = {k}", 1e-10)


def test_the_mask_is_the_diagonal_and_k_entries_a_row():
    masks = [SparseRTRL(k=k, seed=3).pattern(40) for k in range(42)]
    assert torch.equal(masks[0], torch.eye(40, dtype=torch.bool))
    for k, mask in enumerate(masks):
        off = mask & ~masks[0]
        assert mask.diagonal().all()
        assert set(off.sum(1).tolist()) <= {min(k, 40) - 1, min(k, 39)}
    assert all((more | mask).equal(more) for mask, more in pairwise(masks))
    assert masks[40].all() and masks[41].all()
    # Rows are drawn apart, and every column about as often.
    assert len({tuple(row) for row in masks[4].tolist()}) == 40
    often = torch.stack([SparseRTRL(k=8, seed=seed).pattern(40) for seed in range(200)]).sum((0, 1))
    assert ((often - 200 * (1 + 39 * 8 / 40)).abs() < 5 * (200 * 39 * 0.2 * 0.8) ** 0.5).all()


def test_the_mask_follows_from_the_seed_alone():
    mask = SparseRTRL(k=4, seed=3).pattern(20)
    assert not torch.equal(mask, SparseRTRL(k=4, seed=4).pattern(20))
    torch.manual_seed(5)
    assert torch.equal(mask, SparseRTRL(k=4, seed=3).pattern(20))
    # In every process, and in later versions: an interrupted run goes on with its own.
    rows = ["".join(".#"[on] for on in row) for row in SparseRTRL(k=2, seed=3).pattern(6).int()]
    assert rows == ["#...##", "###...", "###...", "..##..", "#.#.#.", ".#.#.#"]


def test_credit_gives_the_gradient():
    """slope times the credit, with the states before: the gradient of a first chunk."""
    net, strategy = Net(8, 9, 2, leak=0.5), SparseRTRL(k=2)
    actual, _ = over_chunks(strategy, net, 9)
    rnn, (input, hx) = net.rnn(Full()), net.data()
    output, _ = rnn(input, hx)
    (q,) = torch.autograd.grad(net.loss_of(output), output)
    credit = strategy.credit(rnn, input.detach(), hx.detach(), q)[0]
    states = torch.cat([hx, output]).detach()
    y = (states[1:] - 0.5 * states[:-1]) / 0.5
    expected = torch.einsum("lnh,lnk->hk", 0.5 * (1 - y**2) * credit, states[:-1])
    assert_same({"W": actual["weight_hh_l0"]}, {"W": expected}, "credit")


def test_influence_is_left_alone_and_batches_are_sums():
    net, strategy = Net(9, 6, 3), SparseRTRL(k=2)
    rnn, input = net.rnn(strategy), net.data()[0].detach()
    _, carry = strategy.unroll(rnn, input, strategy.init_carry(rnn, 3))
    before = carry.influence.clone()
    output, _ = strategy.unroll(rnn, input, carry)
    output.sum().backward()
    assert torch.equal(carry.influence, before)
    together, _ = over_chunks(strategy, net, 2)
    alone = [over_chunks(strategy, net, 2, batch=slice(n, n + 1))[0] for n in range(3)]
    assert_same(together, {name: sum(g[name] for g in alone) for name in together}, "apart")


def test_refusals():
    with pytest.raises(ConfigError, match=r"hidden_size=512: influence needs .*memory_limit_gib=4"):
        VanillaRNN(2, 512, gradient=SparseRTRL())(torch.zeros(1, 32, 2))
    with pytest.raises(ConfigError, match=r"k=-1: must be at least 0"):
        SparseRTRL(k=-1)
    with pytest.raises(ConfigError, match=r"num_layers=2: must be 1.*gradient=full"):
        VanillaRNN(2, 3, 2, gradient=SparseRTRL())(torch.zeros(4, 1, 2))
