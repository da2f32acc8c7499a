"""Sketched RTRL: its ends, snap1 and rtrl; its paper's definition; its certificate."""

import math

import pytest
import torch

from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.sketched_rtrl import SketchedRTRL
from bptt_lab.gradients.snap1 import SnAp1

from .contract import assert_same
from .nets import Net
from .test_rtrl import over_chunks

NETS = [
    Net(5, 12),
    Net(7, 12, leak=0.5, nonlinearity="sigmoid"),
    Net(6, 12, 1, nonlinearity="relu", leak=0.3, bias=False),
    Net(1, 12),
]
LENGTHS = [12, 1, 5, [7, 1, 4]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_rank_0_is_snap1_and_the_full_rank_is_rtrl(net, lengths):
    for rank, other, limit in ((0, SnAp1(), 1e-12), (net.hidden_size, RTRL(), 1e-10)):
        actual, carry = over_chunks(SketchedRTRL(rank=rank), net, lengths)
        assert_same(actual, over_chunks(other, net, lengths)[0], f"rank {rank}", limit)
        more, _ = over_chunks(SketchedRTRL(rank=rank + 90 * (rank > 0)), net, lengths)
        assert_same(more, actual, "more than there is", limit)
    _, exact = over_chunks(RTRL(), net, lengths)
    M = SketchedRTRL().matrix(carry.influence)
    assert_same({"M": M}, {"M": exact.influence.view(M.shape)}, "influence")
    assert (carry.influence[3] < 1e-11 * M.flatten(1).norm(dim=1)).all()


def chunks_of_one_step(net, gain, seed=0, dtype=torch.float64):
    """Random weights, W_hh of about this spectral radius, and what happens at each step."""
    random = torch.Generator().manual_seed(seed)
    rnn = net.rnn(dtype=dtype)
    W = torch.randn(net.hidden_size, net.hidden_size, generator=random, dtype=torch.float64)
    rnn.weight_hh_l0.data.copy_(gain * W / math.sqrt(net.hidden_size))
    x = torch.randn(net.num_steps, net.batch_size, 3, generator=random, dtype=torch.float64)
    chunk = RTRL().observe(
        rnn, x.to(dtype), torch.zeros(1, net.batch_size, net.hidden_size, dtype=dtype), None
    )
    for t in range(net.num_steps):
        now = slice(t, t + 1)
        yield chunk._replace(
            input=chunk.input[now],
            states=chunk.states[t : t + 2],
            values=chunk.values[now],
            slope=chunk.slope[now],
            draw=t,
        )


def influences(strategy, chunks):
    """What is carried after each step, the matrix that it stands for, and the exact one."""
    influence = exact = None
    for chunk in chunks:
        influence, _ = strategy.advance(chunk, influence)
        exact, _ = RTRL().advance(chunk, exact)
        M = strategy.matrix(influence)
        yield influence, M, exact.view(M.shape)


def overrun(strategy, chunks):
    """The largest error in parts of the certificate."""
    worst = 0.0
    for influence, M, exact in influences(strategy, chunks):
        worst = max(worst, ((M - exact).flatten(1).norm(dim=1) / influence[3]).max())
    return worst


@pytest.mark.parametrize("leak", [1.0, 0.3])
@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_the_certificate_bounds_the_error(gain, leak):
    for hidden_size, rank in ((3, 1), (5, 4), (9, 0), (16, 4)):
        net = Net(hidden_size, 40, 10, 1, leak=leak)
        assert overrun(SketchedRTRL(rank=rank), chunks_of_one_step(net, gain)) <= 1


@pytest.mark.parametrize("leak", [1.0, 0.4])
@pytest.mark.parametrize(("rank", "hidden_size"), [(1, 4), (3, 6), (2, 9), (6, 9)])
def test_is_its_papers_definition(rank, hidden_size, leak):
    """With dense matrices and full decompositions; the directions V are the rule's own."""
    strategy, H = SketchedRTRL(rank=rank), hidden_size
    influence = None
    S, off, e = torch.zeros(H, H + 4).double(), torch.zeros(H, H * (H + 4)).double(), 0.0
    for chunk in chunks_of_one_step(Net(H, 25, 1, leak=leak), 1.2):
        influence, _ = strategy.advance(chunk, influence)
        slope, xhat = chunk.slope[0, 0], chunk.extended[0, 0]
        A = (1 - leak) * torch.eye(H).double() + slope[:, None] * chunk.weights.hh
        s = S.norm(dim=1)
        Q = torch.block_diag(
            *(row[:, None] / max(length, 1e-300) for row, length in zip(S, s, strict=True))
        )
        B = (A - A.diag().diag()) @ s.diag()
        V = influence[4][0]
        assert_same({"V": V.T @ V}, {"V": torch.eye(V.shape[1]).double()}, "V", 1e-11)
        dropped = B - B @ V @ V.T
        U, sigma, Vh = torch.linalg.svd(A @ off + B @ V @ V.T @ Q.T, full_matrices=False)
        off = U[:, :rank] @ sigma[:rank].diag() @ Vh[:rank]
        rho = torch.linalg.matrix_norm(A, 2)
        e = rho * e + dropped.norm() + sigma[rank:].norm()
        S = A.diag()[:, None] * S + torch.outer(slope, xhat)
        M = off.view(H, H, -1).clone()
        M.diagonal(dim1=0, dim2=1).add_(S.T)
        assert_same({"M": strategy.matrix(influence)[0]}, {"M": M}, "influence", 1e-9)
        assert influence[3][0] >= e * (1 - 1e-9)
