"""The recurrence on each kernel, and its pure functions, against autograd and plain loops."""

import pytest
import torch

from bptt_lab.core import cell as equations
from bptt_lab.core import recurrence
from bptt_lab.core.cell import NONLINEARITIES, Cell, Layer, Weights
from bptt_lab.core.kernels import core, reference

L, N, I, H = 7, 3, 2, 5
LEAKS = [1.0, 0.5, 0.3]
EVERYTHING = set(equations.Swept._fields)


@pytest.fixture(params=["reference", "core"])
def kernel(request):
    if request.param == "core" and not core.available():
        pytest.skip("the C core was not built")
    return {"reference": reference, "core": core}[request.param]


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def record(kernel, input, hx, weights, cell):
    """States and phi's values, as a kernel writes them."""
    values = None if cell.leak == 1 else input.new_empty(len(input), *hx.shape)
    states = kernel.unroll(input, hx, weights, cell, values)
    return states, states[1:] if values is None else values


def make_weights(bias=True, dtype=torch.float64):
    biases = (draw(H, dtype=dtype), draw(H, dtype=dtype)) if bias else ()
    return Weights(draw(H, I, dtype=dtype), draw(H, H, dtype=dtype), *biases)


@pytest.mark.parametrize("phi", NONLINEARITIES)
def test_nonlinearity_in_its_three_forms(phi):
    apply, apply_, slope = NONLINEARITIES[phi]
    a = draw(50).requires_grad_()
    y = apply(a)
    (expected,) = torch.autograd.grad(y.sum(), a)
    torch.testing.assert_close(slope(y.detach()), expected)
    in_place = a.detach().clone()
    result = apply_(in_place)
    assert result is in_place and torch.equal(in_place, y)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("phi", NONLINEARITIES)
def test_unroll_is_step_after_step(kernel, phi, leak, bias):
    weights, input, hx = make_weights(bias), draw(L, N, I), draw(N, H)
    states = kernel.unroll(input, hx, weights, Cell(phi, leak))
    assert states.shape == (L + 1, N, H) and torch.equal(states[0], hx)
    projected = equations.project(input, weights)
    for t in range(L):
        a = input[t] @ weights.ih.T + states[t] @ weights.hh.T
        a = a + weights.bias_ih + weights.bias_hh if bias else a
        expected = (1 - leak) * states[t] + leak * NONLINEARITIES[phi].apply(a)
        step = equations.step(projected[t], states[t], weights.hh, Cell(phi, leak))
        torch.testing.assert_close(states[t + 1], expected)
        torch.testing.assert_close(step, expected)


def test_unroll_takes_input_in_any_memory_layout(kernel):
    weights, hx = make_weights(), draw(N, H)
    input = draw(N, I, L).permute(2, 0, 1)
    expected = kernel.unroll(input.contiguous(), hx, weights, Cell())
    assert torch.equal(kernel.unroll(input, hx, weights, Cell()), expected)


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("phi", NONLINEARITIES)
def test_slopes_are_those_of_autograd(kernel, phi, leak):
    weights, input, hx = make_weights(), draw(L, N, I), draw(N, H)
    states, values = record(kernel, input, hx, weights, Cell(phi, leak))
    a = equations.project(input, weights) + states[:-1] @ weights.hh.T
    a.requires_grad_()
    (expected,) = torch.autograd.grad((leak * NONLINEARITIES[phi].apply(a)).sum(), a)
    torch.testing.assert_close(
        equations.slopes(values, Cell(phi, leak)), expected, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("leak", [0.9, 0.7, 0.5, 0.3, 0.1])
def test_dead_relu_units_have_no_slope_at_all(kernel, leak, dtype):
    if kernel is core and dtype == torch.bfloat16:
        pytest.skip("the core works in float32 and float64")
    weights = make_weights(dtype=dtype)
    weights.hh.mul_(0.3)  # a stable net
    input, hx = draw(200, 20, I, dtype=dtype), 10 * draw(20, H, dtype=dtype)
    states, values = record(kernel, input, hx, weights, Cell("relu", leak))
    a = equations.project(input, weights) + states[:-1] @ weights.hh.T
    margin = 0.2 if dtype == torch.bfloat16 else 1e-4  # rounding of `a` itself
    slopes, dead, alive = equations.slopes(values, Cell("relu", leak)), a < -margin, a > margin
    assert dead.any() and not slopes[dead].any()
    assert alive.any() and (slopes[alive] == torch.tensor(leak, dtype=dtype)).all()


@pytest.mark.parametrize(
    "keep",
    [None, [1.0] * L, [0.0] * L, [1, 1, 0, 1, 0, 0, 1], [0.0, 0.5, 2.0, -1.0, 0.0, 1.0, 0.25]],
)
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("phi", NONLINEARITIES)
def test_sweep_is_the_explicit_loop(kernel, phi, leak, keep):
    weights, input, cell = make_weights(), draw(L, N, I), Cell(phi, leak)
    states, values = record(kernel, input, draw(N, H), weights, cell)
    q, q_last, slopes = draw(L, N, H), draw(N, H), equations.slopes(values, cell)
    c, delta = torch.zeros(L + 1, N, H).double(), torch.zeros(L + 1, N, H).double()
    for t in reversed(range(L)):
        factor = 0 if t == L - 1 else 1 if keep is None else keep[t + 1]
        handed = (1 - leak) * c[t + 1] + delta[t + 1] @ weights.hh
        c[t] = q[t] + factor * handed + (q_last if t == L - 1 else 0)
        delta[t] = slopes[t] * c[t]
    delta = delta[:-1]
    expected = equations.Swept(
        delta,
        c[:-1],
        (1 - leak) * c[0] + delta[0] @ weights.hh,
        torch.einsum("lnh,hi->lni", delta, weights.ih),
        torch.einsum("lnh,lni->hi", delta, input),
        torch.einsum("lnh,lnk->hk", delta, states[:-1]),
        delta.sum((0, 1)),
    )
    before = [tensor.clone() for tensor in (q, q_last, states)]

    def sweep(want):
        layer = Layer(input, states, values, weights)
        return kernel.sweep(q, layer, cell, want, q_last_NH=q_last, keep=keep)

    swept = sweep(EVERYTHING)
    for name, wanted in expected._asdict().items():
        torch.testing.assert_close(getattr(swept, name), wanted)
        alone = sweep({name})
        assert [n for n, g in alone._asdict().items() if g is not None] == [name]
        torch.testing.assert_close(getattr(alone, name), wanted)
    assert all(map(torch.equal, before, (q, q_last, states)))


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("keep", [None, [0.0, 0.5, 2.0, 0.0, 1.0, 1.0, 0.25]])
def test_a_sweep_in_segments_is_the_sweep(kernel, keep, length, monkeypatch):
    """By the reference's own segments, and by hand: what one hands back enters the one before."""
    weights, input, cell = make_weights(), draw(L, N, I), Cell("tanh", 0.5)
    (states, values), q = record(kernel, input, draw(N, H), weights, cell), draw(L, N, H)
    layer = Layer(input, states, values, weights)
    whole = kernel.sweep(q, layer, cell, EVERYTHING, keep=keep)
    monkeypatch.setattr(reference, "ELEMENTS", length * N * H)
    again = kernel.sweep(q, layer, cell, EVERYTHING, keep=keep)
    total, last = torch.zeros(H, H).double(), None
    for begin in reversed(range(0, L, length)):
        part = slice(begin, begin + length)
        kept = None if keep is None else keep[part]
        steps = layer.part(begin, begin + length)
        swept = kernel.sweep(q[part], steps, cell, EVERYTHING, q_last_NH=last, keep=kept)
        total += swept.grad_weight_hh
        last = swept.grad_hx * (1.0 if keep is None else keep[begin])
    torch.testing.assert_close(total, whole.grad_weight_hh)
    torch.testing.assert_close(swept.grad_hx, whole.grad_hx)
    for name, wanted in whole._asdict().items():
        torch.testing.assert_close(getattr(again, name), wanted)


@pytest.mark.parametrize("form", ["none", "sum", "columns", "reversed batch"])
def test_immediate_credit_in_any_memory_layout(kernel, form):
    weights, input = make_weights(), draw(L, N, I)
    states = kernel.unroll(input, draw(N, H), weights, Cell())
    q = {
        "none": None,
        "sum": torch.ones((), dtype=torch.float64).expand(L, N, H),
        "columns": draw(H, N, L).permute(2, 1, 0),
        "reversed batch": draw(N, L, H).transpose(0, 1),
    }[form]
    dense = torch.zeros(L, N, H).double() if q is None else q.contiguous()
    layer = Layer(input, states, states[1:], weights)
    swept = kernel.sweep(q, layer, Cell(), EVERYTHING)
    expected = kernel.sweep(dense, layer, Cell(), EVERYTHING)
    for name, wanted in expected._asdict().items():
        torch.testing.assert_close(getattr(swept, name), wanted)


@pytest.mark.parametrize("length", [1, L])
@pytest.mark.parametrize("leak", LEAKS)
def test_a_cut_holds_back_what_is_not_finite(kernel, leak, length, monkeypatch):
    """Within a segment of the reference, and where one segment hands over to another."""
    monkeypatch.setattr(reference, "ELEMENTS", length * N * H)
    weights, input, cell = make_weights(), draw(L, N, I), Cell("tanh", leak)
    states, values = record(kernel, input, draw(N, H), weights, cell)
    q, keep = draw(L, N, H), [0.0 if t == 4 else 1.0 for t in range(L)]

    def delta():
        layer = Layer(input, states, values, weights)
        return kernel.sweep(q, layer, cell, {"delta"}, keep=keep).delta

    clean = delta()
    q[5, 0, 0] = torch.inf
    spoilt = delta()
    assert torch.equal(spoilt[:4], clean[:4]) and not spoilt[4].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_agree_to_rounding(dtype):
    if not core.available():
        pytest.skip("the C core was not built")
    weights, input = make_weights(dtype=dtype), draw(50, N, I, dtype=dtype)
    weights.hh.mul_(0.4)
    hx, q = draw(N, H, dtype=dtype), draw(50, N, H, dtype=dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for phi in NONLINEARITIES:
        states = [k.unroll(input, hx, weights, Cell(phi)) for k in (core, reference)]
        error = (states[0] - states[1]).abs().max() / states[1].abs().max()
        assert float(error) < tolerance
        swept = [
            k.sweep(q, Layer(input, states[1], states[1][1:], weights), Cell(phi), EVERYTHING)
            for k in (core, reference)
        ]
        for ours, wanted in zip(*swept, strict=True):
            assert float((ours - wanted).abs().max() / wanted.abs().max()) < tolerance


def test_the_core_is_chosen_where_it_can_work():
    weights, half = make_weights(), make_weights(dtype=torch.bfloat16)
    input, hx = draw(L, N, I), draw(N, H)
    assert core.supports(input, hx, *weights) == core.available()
    assert not core.supports(input.bfloat16(), hx.bfloat16(), *half)
    assert not core.supports(input[:, :0], hx[:0], *weights)
    assert not core.supports(input.float(), hx, *weights)
    assert not core.supports(input.to("meta"), hx, *weights)
    states = recurrence.unroll(input, hx, weights, Cell()).states
    chosen = core if core.available() else reference
    assert torch.equal(states, chosen.unroll(input, hx, weights, Cell()))


def test_weights_of_another_type_are_refused():
    weights, other = make_weights(), make_weights(dtype=torch.float32)
    input, hx = draw(L, N, I), draw(N, H)
    layer = recurrence.unroll(input, hx, weights, Cell())
    with pytest.raises(RuntimeError, match="dtype"):
        recurrence.unroll(input, hx, other, Cell())
    with pytest.raises(RuntimeError, match="dtype"):
        recurrence.sweep(draw(L, N, H), layer._replace(weights=other), Cell(), {"delta"})
