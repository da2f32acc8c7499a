"""Sketched RTRL: its ends, snap1 and rtrl; its paper's definition; its certificate."""

import itertools
import math

import pytest
import torch

from bptt_lab.gradients.rtrl import RTRL
from bptt_lab.gradients.sketched_rtrl import SketchedRTRL, _right_singular_vectors
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
LENGTHS = [12, 1, [7, 1, 4]]


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
        exact, _ = RTRL().advance(in_float64(chunk), exact)
        M = strategy.matrix(influence).double()
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
    for hidden_size, rank in ((3, 1), (9, 0), (16, 4)):
        net = Net(hidden_size, 12, 20, leak=leak)
        assert overrun(SketchedRTRL(rank=rank), chunks_of_one_step(net, gain)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("leak", [1.0, 0.3, 0.02])
def test_the_certificate_bounds_the_error_over_many_steps(leak, dtype):
    """1e5 steps each, in sequences of 200; what rounding does is in the certificate."""
    kinds = itertools.product((3, 4, 6, 9, 16), (0.5, 1.0, 2.0), ("tanh", "relu"))
    for seed, (hidden_size, gain, nonlinearity) in enumerate(kinds):
        strategy = SketchedRTRL(rank=(1, 2, 4, 16)[seed % 4])
        net = Net(hidden_size, 200, 17, 1, nonlinearity, leak, bias=bool(seed % 3))
        assert overrun(strategy, chunks_of_one_step(net, gain, seed, dtype)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_over_many_steps_the_sketch_stays_orthonormal(dtype):
    """25,000 steps of 4 sequences, and their certificates too."""
    strategy, influence, exact = SketchedRTRL(rank=4), None, None
    for seed in range(5):
        for t, chunk in enumerate(chunks_of_one_step(Net(9, 5000, 4), 0.9, seed, dtype)):
            influence, _ = strategy.advance(chunk, influence)
            exact, _ = RTRL().advance(in_float64(chunk), exact)
            if t % 50 == 49:
                assert_orthonormal(influence)
        M = strategy.matrix(influence).double()
        assert ((M - exact.view(M.shape)).flatten(1).norm(dim=1) <= influence[3]).all()


def assert_orthonormal(influence):
    """To what is added to a Gram matrix: R^T R is not above I, and hardly below it."""
    R = influence[2]
    gram, allowed = R.double() @ R.double().mT, 3000 * torch.finfo(R.dtype).eps
    assert (gram - torch.eye(R.shape[1])).abs().max() < allowed


def in_float64(chunk):
    weights = type(chunk.weights)(*(None if w is None else w.double() for w in chunk.weights))
    parts = {name: getattr(chunk, name).double() for name in ("input", "states", "values", "slope")}
    return chunk._replace(weights=weights, **parts)


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


def test_the_gradient_is_that_of_the_influence():
    """q_t M_t, a step a chunk; and longer chunks give the same."""
    strategy, net = SketchedRTRL(rank=2), Net(6, 12, leak=0.7)
    influence, chunks = None, chunks_of_one_step(net, 1.2)
    random = torch.Generator().manual_seed(1)
    q = torch.randn(12, 3, 6, generator=random, dtype=torch.float64)
    for q_t, chunk in zip(q, chunks, strict=True):
        before = influence
        influence, kept = strategy.advance(chunk, before)
        found = strategy.gradient(chunk, before, kept, q_t[None])
        expected = torch.einsum("ni,niaj->aj", q_t, strategy.matrix(influence))
        assert_same({"g": found}, {"g": expected}, "of the influence")
    alone, after = over_chunks(strategy, net, 1)
    for lengths in (12, 5):
        found, carry = over_chunks(strategy, net, lengths)
        assert_same(found, alone, f"chunks of {lengths}")
        M, expected = (strategy.matrix(c.influence) for c in (carry, after))
        assert_same({"M": M}, {"M": expected}, f"chunks of {lengths}")


def test_sequences_are_apart():
    strategy, net = SketchedRTRL(rank=2), Net(7, 9, leak=0.6)
    together, carry = over_chunks(strategy, net, 4)
    M, alone = strategy.matrix(carry.influence), []
    for n in range(3):
        gradient, own = over_chunks(strategy, net, 4, slice(n, n + 1))
        alone.append(gradient)
        assert_same({"M": M[n]}, {"M": strategy.matrix(own.influence)[0]}, "a sequence")
        assert_same({"e": carry.influence[3][n]}, {"e": own.influence[3][0]}, "a certificate")
    assert_same(together, {k: sum(g[k] for g in alone) for k in together}, "summed")


@pytest.mark.parametrize("leak", [1.0, 0.3])
def test_the_error_falls_with_the_rank(leak):
    errors = []
    for rank in (0, 1, 2, 4, 8, 12):
        chunks = chunks_of_one_step(Net(12, 15, 4, leak=leak), 1.0)
        strategy = SketchedRTRL(rank=rank)
        errors.append(sum((M - X).square().sum() for _, M, X in influences(strategy, chunks)))
    assert all(more < less for less, more in itertools.pairwise(errors))
    assert errors[3] < 0.6 * errors[0] and errors[5] < 1e-20 * errors[0]


def test_tells_the_certificate_and_its_part_of_the_norm():
    strategy = SketchedRTRL(rank=2)
    for influence, M, _ in influences(strategy, chunks_of_one_step(Net(6, 9, leak=0.5), 0.7)):
        told = strategy.told_by(influence)
        certificate = float(influence[3].norm())
        assert told["certificate"] == pytest.approx(certificate, rel=1e-12)
        assert told["certificate_ratio"] == pytest.approx(certificate / float(M.norm()), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_explodes_ends_in_no_number_and_leaves_others_alone(dtype):
    strategy, influence = SketchedRTRL(rank=2), None
    for chunk in chunks_of_one_step(Net(6, 12, 2), 1.0, dtype=dtype):
        chunk.slope[:, 1] *= 1e12 if dtype == torch.float32 else 1e80
        before = influence
        influence, kept = strategy.advance(chunk, before)
        gradient = strategy.gradient(chunk, before, kept, torch.ones(1, 2, 6, dtype=dtype))
    M = strategy.matrix(influence)
    assert influence[3][1] == math.inf and not M[1].isfinite().all()
    assert influence[3][0] < math.inf and M[0].isfinite().all()
    assert not gradient.isfinite().all()


@pytest.mark.parametrize("rank", [0, 2, 6])
def test_units_that_are_dead_or_idle_are_safe(rank):
    """Relu units that begin late or never, no bias, no input at first, W_hh of zeros."""
    strategy, net = SketchedRTRL(rank=rank), Net(6, 16, 4, nonlinearity="relu", bias=False)
    for gain in (0.0, 1.0):
        chunks = list(chunks_of_one_step(net._replace(num_steps=10), gain))
        for t, chunk in enumerate(chunks):
            chunk.slope[:, :, 0] = 0
            chunk.slope[:, 1, : t % 7] = 0
            if t < 3:
                chunk.input.zero_()
                chunk.states[0].zero_()
        for influence, M, exact in influences(strategy, chunks):
            error = (M - exact).flatten(1).norm(dim=1)
            assert (
                all(part.isfinite().all() for part in influence) and (error <= influence[3]).all()
            )
            assert rank < 6 or (error <= 1e-10 * exact.norm()).all()


@pytest.mark.parametrize("rank", [0, 1, 6])
def test_influence_whose_squares_are_no_numbers_is_safe(rank):
    """In float32: squares of what is below 1e-23 are zero."""
    strategy, net = SketchedRTRL(rank=rank), Net(24, 12, 2, bias=False)
    for carried, M, exact in influences(strategy, faint(net)):
        assert all(part.isfinite().all() for part in carried)
        assert ((M - exact).flatten(1).norm(dim=1) <= carried[3]).all()


def faint(net):
    """Chunks whose inputs and states are of the size 1e-30, in float32."""
    for chunk in chunks_of_one_step(net, 1.0, dtype=torch.float32):
        yield chunk._replace(input=chunk.input * 1e-30, states=chunk.states * 1e-30)


def test_what_explodes_in_part_breaks_no_decomposition():
    """K^T K with entries that are no numbers beside some that are: eigh alone fails."""
    K = torch.zeros(1, 12, 7)
    K[0, 0, 0], K[0, :, 4:] = 1e25, 1e-4 * torch.arange(1.0, 37).view(12, 3).sin()
    W = _right_singular_vectors(K)
    torch.testing.assert_close(W.mT @ W, torch.eye(7)[None], atol=1e-5, rtol=0)
    assert W[0, 0, -1].abs() > 0.999
