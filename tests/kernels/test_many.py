"""R layers in one call have the bits of R calls on one thread, on every kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from instruction_sets import running_on
from sampling import pairwise

from bptt_lab.core import many, recurrence
from bptt_lab.core.cell import Cell, Layer, Swept, Weights
from bptt_lab.core.kernels import core

COUNT = 5
KERNELS = ("avx512", "avx2", "generic", "reference")
# L, N, I, H: odd ones, a batch of one, more rows than a group holds, more steps than a segment.
SIZES = [(1, 1, 1, 1), (7, 5, 3, 17), (9, 1, 2, 33), (40, 67, 2, 20), (8, 32, 5, 64)]
LEAKS = [(1.0,) * COUNT, (0.3, 1.0, 0.5, 1.0, 0.01)]


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "reference":
        monkeypatch.setattr(core, "supports", lambda *tensors: False)
        yield request.param
    elif not core.available():
        pytest.skip("the C core was not built")
    else:
        with running_on(request.param):
            yield request.param


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("size", "dtype", "phi", "leaks", "biased", "cut", "entering"),
    pairwise(
        SIZES,
        [torch.float32, torch.float64],
        ["tanh", "relu", "identity", "sigmoid"],
        LEAKS,
        [True, False],
        [True, False],
        ["everywhere", "sum", "end"],
    ),
)
def test_each_has_its_own_bits(kernel, size, dtype, phi, leaks, biased, cut, entering):
    L, N, I, H = size
    random = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(COUNT, *shape, generator=random, dtype=dtype) / shape[-1]

    # As in a fleet: all parameters of a net in a row, and a batch that all share.
    flat = draw(H * (I + H + 2)) * H
    parts = flat.split([H * I, H * H, H, H], 1)
    ih, hh = parts[0].unflatten(1, (H, I)), parts[1].unflatten(1, (H, H))
    weights = Weights(ih, hh, *(parts[2:] if biased else (None, None)))
    input = draw(L, N, I)[:1].expand(COUNT, -1, -1, -1) if entering == "sum" else draw(L, N, I)
    states = draw(L + 1, N, H)
    hx = states[:, 0].clone()
    values = states[:, 1:] if set(leaks) == {1} else draw(L, N, H)
    layers = Layer(input, states, values, weights)
    q = {"everywhere": draw(L, N, H), "sum": draw(1, 1, H).expand(-1, L, N, -1), "end": None}
    q_last = draw(N, H) if entering == "end" else None
    keep = torch.rand(COUNT, L, generator=random, dtype=torch.float64) if cut else None
    if keep is not None:
        keep[:, L // 2] = 0
    shapes = [(L, N, H), (L, N, H), (N, H), (L, N, I), (H, I), (H, H), (H,)]
    # Gradients too lie in a row of their replica.
    everything = draw(sum(torch.Size(shape).numel() for shape in shapes))
    sizes = [torch.Size(shape).numel() for shape in shapes]
    into = Swept(
        *(t.unflatten(1, s) for t, s in zip(everything.split(sizes, 1), shapes, strict=True))
    )
    forward = many.unroll(layers, phi, leaks)
    backward = many.sweep(q[entering], layers, phi, leaks, into, q_last_RNH=q_last, keep_RL=keep)
    torch.set_num_threads(1 if kernel == "reference" else 2)
    for _ in range(2):  # what is prepared serves any number of times
        everything.fill_(torch.nan)
        forward()
        backward()
    torch.set_num_threads(1)
    for r, leak in enumerate(leaks):
        own = Weights(*(None if w is None else w[r].clone() for w in weights))
        alone = recurrence.unroll(input[r], hx[r], own, Cell(phi, leak))
        assert torch.equal(states[r], alone.states)
        given = q[entering]
        swept = recurrence.sweep(
            None if given is None else given[r],
            alone,
            Cell(phi, leak),
            set(Swept._fields),
            q_last_NH=None if q_last is None else q_last[r],
            keep=None if keep is None else keep[r].tolist(),
        )
        for name, one, other in zip(Swept._fields, swept, into, strict=True):
            assert torch.equal(one, other[r]), name
