"""The C core against a float64 loop in torch, on every instruction set this machine has."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import threading
from collections.abc import Iterator

import pytest
import torch
from instruction_sets import running_on
from sampling import pairwise
from torch import Tensor

from bptt_lab.core.cell import Cell, Layer, Swept, Weights
from bptt_lab.core.kernels import core

pytestmark = pytest.mark.skipif(not core.available(), reason="the C core was not built")

ISAS = ("avx512", "avx2", "generic")
# L, N, I, H: one of everything, odd, a lane more or less than a vector, more rows than a group
# holds, weights too large to be walked through every step, the shapes that are timed (short).
SIZES = [
    (1, 1, 1, 1),
    (2, 5, 3, 3),
    (7, 5, 3, 17),
    (3, 1, 2, 127),
    (33, 1, 10, 128),
    (40, 67, 2, 20),
    (3, 200, 5, 33),
    (5, 9, 300, 400),
    (9, 32, 28, 64),
    (12, 3, 7, 65),
    (300, 2, 1, 8),
]
PHI = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "identity": lambda a: a,
    "sigmoid": torch.sigmoid,
}
SLOPE = {
    "tanh": lambda y: 1 - y * y,
    "relu": lambda y: (y > 0).to(y.dtype),
    "identity": torch.ones_like,
    "sigmoid": lambda y: y * (1 - y),
}
EVERYTHING = frozenset(Swept._fields)


@pytest.fixture(params=ISAS, autouse=True)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with running_on(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Problem:
    """Random tensors of one size, float64; `cast` gives the same numbers in another type."""

    def __init__(self, size: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> None:
        L, N, I, H = size
        g = torch.Generator().manual_seed(sum(size))

        def randn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

        self.x, self.hx, self.q = randn(L, N, I), randn(N, H), randn(L, N, H)
        self.q_last = randn(N, H)
        self.w_ih, self.w_hh = randn(H, I) / I**0.5, 0.8 * randn(H, H) / H**0.5
        self.b_ih, self.b_hh = randn(H), randn(H)
        self.keep = [(0.0, 1.0, 1.7)[t % 3] for t in range(L)]

    @property
    def weights(self) -> Weights:
        return Weights(self.w_ih, self.w_hh, self.b_ih, self.b_hh)

    def unroll(self, phi: str = "tanh", leak: float = 1.0) -> Tensor:
        states = self.x.new_empty(len(self.x) + 1, *self.hx.shape)
        self.values = states[1:] if leak == 1 else torch.empty_like(states[1:])
        room = None if leak == 1 else self.values
        states[:] = core.unroll(self.x, self.hx, self.weights, Cell(phi, leak), room)
        return states

    def sweep(self, states: Tensor, phi: str = "tanh", leak: float = 1.0, **options) -> Swept:
        want, q = options.pop("want", EVERYTHING), options.pop("q", self.q)
        layer = Layer(self.x, states, self.values, self.weights)
        return core.sweep(q, layer, Cell(phi, leak), want, **options)


def reference_unroll(p: Problem, phi: str, leak: float) -> Tensor:
    states = [p.hx.double()]
    for x in p.x.double():
        a = x @ p.w_ih.double().T + p.b_ih.double() + p.b_hh.double()
        y = PHI[phi](a + states[-1] @ p.w_hh.double().T)
        states.append((1 - leak) * states[-1] + leak * y)
    return torch.stack(states)


def reference_values(p: Problem, states: Tensor, phi: str) -> Tensor:
    a = p.x.double() @ p.w_ih.double().T + p.b_ih.double() + p.b_hh.double()
    return PHI[phi](a + states[:-1].double() @ p.w_hh.double().T)


def reference_sweep(
    p: Problem, states: Tensor, q: Tensor, phi: str, leak: float, keep: list[float] | None
) -> Swept:
    w_hh, w_ih, x = p.w_hh.double(), p.w_ih.double(), p.x.double()
    L = len(q)
    delta, credit = torch.zeros_like(q), torch.zeros_like(q)
    for t in reversed(range(L)):
        credit[t] = q[t]
        if t + 1 < L:
            factor = 1.0 if keep is None else keep[t + 1]
            credit[t] += factor * ((1 - leak) * credit[t + 1] + delta[t + 1] @ w_hh)
        delta[t] = leak * SLOPE[phi](p.values[t].double()) * credit[t]
    return Swept(
        delta,
        credit,
        (1 - leak) * credit[0] + delta[0] @ w_hh,
        delta @ w_ih,
        torch.einsum("lnh,lni->hi", delta, x),
        torch.einsum("lnh,lnk->hk", delta, states[:-1].double()),
        delta.sum((0, 1)),
    )


def error(actual: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest number."""
    if not expected.numel():
        return 0.0
    scale = expected.abs().max().clamp_min(1e-30)
    return ((actual.double() - expected).abs().max() / scale).item()


TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


@pytest.mark.parametrize(
    ("size", "phi", "leak", "dtype"), pairwise(SIZES, PHI, [1.0, 0.5], TOLERANCE), ids=str
)
def test_agrees_with_a_float64_loop(
    size: tuple[int, int, int, int], phi: str, leak: float, dtype: torch.dtype
) -> None:
    p = Problem(size, dtype)
    tolerance = TOLERANCE[dtype]
    torch.set_num_threads(1)  # for the loops in torch
    expected_states = reference_unroll(p, phi, leak)
    q = p.q.double().clone()
    q[-1] += p.q_last
    for keep in (None, p.keep):
        expected = None
        for threads in (1, 2):
            torch.set_num_threads(threads)
            states = p.unroll(phi, leak)
            swept = p.sweep(states, phi, leak, keep=keep, q_last_NH=p.q_last)
            torch.set_num_threads(1)
            assert error(states, expected_states) < tolerance
            assert error(p.values, reference_values(p, states, phi)) < 5 * tolerance
            expected = expected or reference_sweep(p, states, q, phi, leak, keep)
            for name, actual in swept._asdict().items():
                assert error(actual, getattr(expected, name)) < 5 * tolerance, name


@pytest.mark.parametrize("size", [(7, 5, 3, 17), (9, 32, 28, 64), (33, 1, 10, 128)], ids=str)
def test_what_is_asked_for_does_not_change_it(size: tuple[int, int, int, int]) -> None:
    p = Problem(size)
    states = p.unroll()
    everything = p.sweep(states)
    for name in EVERYTHING:
        alone = getattr(p.sweep(states, want={name}), name)
        assert torch.equal(alone, getattr(everything, name)), name


def test_q_in_any_form() -> None:
    p = Problem((6, 4, 3, 17))
    states = p.unroll()
    number = torch.tensor(0.3, dtype=torch.float64)
    row = p.q[0, 0].clone()
    for q in (
        number.expand_as(p.q),  # the gradient of sum()
        row.expand_as(p.q),
        p.q.transpose(0, 1).contiguous().transpose(0, 1),  # batch first
        p.q.repeat(1, 1, 2)[..., :17],
        p.q.flip(2).contiguous().flip(2),
        p.q.transpose(1, 2).contiguous().transpose(1, 2),
    ):
        for actual, expected in zip(
            p.sweep(states, q=q), p.sweep(states, q=q.contiguous().clone()), strict=True
        ):
            assert torch.equal(actual, expected)
    nothing = p.sweep(states, q=None, q_last_NH=p.q_last)
    q = torch.zeros_like(p.q)
    q[-1] = p.q_last
    assert torch.equal(nothing.grad_weight_hh, p.sweep(states, q=q).grad_weight_hh)


@pytest.mark.parametrize("size", [(5, 13, 3, 33), (9, 32, 28, 64), (40, 67, 2, 20)], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_same_bits(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    """On every run; and, but for the sums over the batch, at every number of threads."""
    p = Problem(size, dtype)
    runs = []
    for threads in (1, 1, 2, 2):
        torch.set_num_threads(threads)
        states = p.unroll()
        runs.append((states, p.sweep(states)))
    for i, j in ((0, 1), (2, 3)):
        assert torch.equal(runs[i][0], runs[j][0])
        for a, b in zip(runs[i][1], runs[j][1], strict=True):
            assert torch.equal(a, b)
    assert torch.equal(runs[0][0], runs[2][0])
    for name in ("delta", "credit", "grad_hx", "grad_input"):
        assert torch.equal(getattr(runs[0][1], name), getattr(runs[2][1], name))


def test_a_unit_at_rest_passes_no_credit() -> None:
    for dtype in TOLERANCE:
        p = Problem((50, 5, 3, 33), dtype)
        states = p.unroll("relu", 0.3)
        a = p.x @ p.w_ih.T + p.b_ih + p.b_hh + states[:-1] @ p.w_hh.T
        off = a < -1e-4
        assert off.any()
        assert not p.sweep(states, "relu", 0.3).delta[off].any()


@pytest.mark.parametrize("phi", PHI)
def test_nan_and_infinity_go_where_they_go_in_torch(phi: str) -> None:
    for dtype in TOLERANCE:
        p = Problem((4, 5, 3, 17), dtype)
        p.x[1, 2, 0] = torch.nan
        states = p.unroll(phi)
        expected = reference_unroll(p, phi, 1.0)
        assert torch.equal(states.isnan(), expected.isnan())
        p = Problem((4, 1, 1, 17), dtype)
        p.x[:] = torch.inf
        p.w_hh.zero_()
        states = p.unroll(phi)
        expected = reference_unroll(p, phi, 1.0)
        torch.testing.assert_close(states.double(), expected, atol=1e-35, rtol=0, equal_nan=True)


def test_a_cut_stops_nan() -> None:
    p = Problem((6, 3, 2, 17))
    p.q[4] = torch.nan
    p.keep = [1, 1, 1, 0, 1, 1]
    delta = p.sweep(p.unroll(), keep=p.keep).delta
    assert delta[3].isnan().all()
    assert not delta[:3].isnan().any()


def phi_array(x: Tensor, phi: str) -> Tensor:
    """One step of one unit, a number a sequence."""
    weight = x.new_ones(1, 1)
    states = core.unroll(
        x.view(1, -1, 1), x.new_zeros(len(x), 1), Weights(weight, 0 * weight), Cell(phi)
    )
    return states[1].flatten()


@pytest.mark.parametrize("phi", ["tanh", "sigmoid"])
def test_float32_error_bound(phi: str) -> None:
    """Every 4999th float there is: 4 units in the last place, and 1.6e-7 in all."""
    bits = torch.arange(-(2**31), 2**31, 4999, dtype=torch.int64).to(torch.int32)
    x = bits.view(torch.float32)
    x = x[x.isfinite()]
    y, exact = phi_array(x, phi).double(), PHI[phi](x.double())
    difference = (y - exact).abs()
    assert y.abs().max() <= 1
    assert difference.max() < 1.6e-7
    unit = torch.exp2(torch.floor(torch.log2(exact.abs().clamp_min(2.0**-126))) - 23)
    inside = x.abs() < 86  # below it sigmoid is 4e-38 and stays there
    assert (difference / unit)[inside].max() < 4


@pytest.mark.parametrize("phi", ["tanh", "sigmoid"])
def test_float64_error_bound(phi: str) -> None:
    """4 units in the last place against torch, which is within 1 itself."""
    g = torch.Generator().manual_seed(0)
    x = torch.cat(
        [
            torch.linspace(-40, 40, 400_001, dtype=torch.float64),
            torch.randn(200_000, generator=g, dtype=torch.float64)
            * torch.exp2(torch.randint(-1000, 9, (200_000,), generator=g).double()),
        ]
    )
    y, expected = phi_array(x, phi), PHI[phi](x)
    assert y.abs().max() <= 1
    inside = (x.abs() < 700) & (expected.abs() > 1e-300)
    assert ((y - expected).abs() / expected.abs())[inside].max() < 9e-16
    assert (y - expected).abs().max() < 5e-16


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_phi_at_the_ends(dtype: torch.dtype) -> None:
    ends = [torch.inf, -torch.inf, torch.nan, 0.0, -0.0, 1e-310, 1e-40, -1e-40, 3e38, -3e38]
    x = torch.tensor(ends * 5, dtype=dtype)
    for phi, function in PHI.items():
        y = phi_array(x, phi)
        torch.testing.assert_close(y, function(x), atol=1e-37, rtol=1e-6, equal_nan=True)


def test_several_python_threads_at_once() -> None:
    p = Problem((60, 16, 3, 33))
    expected = p.sweep(p.unroll())
    failures = []

    def work() -> None:
        torch.set_num_threads(2)
        p = Problem((60, 16, 3, 33))
        for _ in range(20):
            for a, b in zip(p.sweep(p.unroll()), expected, strict=True):
                if not torch.equal(a, b):
                    failures.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_without_openmp() -> None:
    p = Problem((20, 16, 3, 33))
    expected = p.sweep(p.unroll())
    core._library().bptt_use_gomp(None)
    try:
        for a, b in zip(p.sweep(p.unroll()), expected, strict=True):
            assert torch.equal(a, b)
    finally:
        core._library().bptt_use_gomp(core._gomp_parallel())


def _in_a_child(queue: multiprocessing.Queue, p: Problem, expected: Tensor) -> None:
    queue.put(bool(torch.equal(p.unroll(), expected)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_forked_child() -> None:
    """The OpenMP threads stay in the parent; the child starts its own."""
    p = Problem((20, 16, 3, 33))
    expected = p.unroll()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_child, args=(queue, p, expected))
    child.start()
    try:
        assert queue.get(timeout=600)
    finally:
        child.join(timeout=600)
        if child.is_alive():
            child.kill()
    assert torch.equal(p.unroll(), expected)


def test_argument_structures_match_the_header() -> None:
    """Seven pointers, four longs, an int; fifteen, six longs; two ints and a double each."""
    word = ctypes.sizeof(ctypes.c_void_p)
    assert ctypes.sizeof(core._UnrollArgs) == 11 * word + 24
    assert ctypes.sizeof(core._SweepArgs) == 21 * word + 16
