"""The pure functions of the recurrence, one by one, against autograd and plain loops."""

import pytest
import torch

from bptt_lab import recurrence
from bptt_lab.recurrence import NONLINEARITIES, Credit, Weights

L, N, I, H = 7, 3, 2, 5
LEAKS = [1.0, 0.5, 0.3]


def draw(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


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
def test_unroll_is_step_after_step(phi, leak, bias):
    weights, input, hx = make_weights(bias), draw(L, N, I), draw(N, H)
    states = recurrence.unroll(input, hx, weights, phi, leak)
    assert states.shape == (L + 1, N, H) and torch.equal(states[0], hx)
    projected = recurrence.project(input, weights)
    for t in range(L):
        a = input[t] @ weights.ih.T + states[t] @ weights.hh.T
        a = a + weights.bias_ih + weights.bias_hh if bias else a
        expected = (1 - leak) * states[t] + leak * NONLINEARITIES[phi].apply(a)
        step = recurrence.step(projected[t], states[t], weights.hh, phi, leak)
        torch.testing.assert_close(states[t + 1], expected)
        torch.testing.assert_close(step, expected)


def test_unroll_takes_input_in_any_memory_layout():
    weights, hx = make_weights(), draw(N, H)
    input = draw(N, I, L).permute(2, 0, 1)
    expected = recurrence.unroll(input.contiguous(), hx, weights, "tanh", 1.0)
    assert torch.equal(recurrence.unroll(input, hx, weights, "tanh", 1.0), expected)


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("phi", NONLINEARITIES)
def test_slopes_are_those_of_autograd(phi, leak):
    weights, input, hx = make_weights(), draw(L, N, I), draw(N, H)
    states = recurrence.unroll(input, hx, weights, phi, leak)
    a = recurrence.project(input, weights) + states[:-1] @ weights.hh.T
    a.requires_grad_()
    (expected,) = torch.autograd.grad((leak * NONLINEARITIES[phi].apply(a)).sum(), a)
    torch.testing.assert_close(recurrence.slopes(states, phi, leak), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("leak", [0.9, 0.7, 0.5, 0.3, 0.1])
def test_dead_relu_units_have_no_slope_at_all(leak, dtype):
    """phi(a) is recovered by a difference: where it is 0, rounding must not revive the unit."""
    weights = make_weights(dtype=dtype)
    weights.hh.mul_(0.3)  # a stable net
    input, hx = draw(200, 20, I, dtype=dtype), 10 * draw(20, H, dtype=dtype)
    states = recurrence.unroll(input, hx, weights, "relu", leak)
    a = recurrence.project(input, weights) + states[:-1] @ weights.hh.T
    margin = 0.2 if dtype == torch.bfloat16 else 1e-4  # rounding of `a` itself
    slopes, dead, alive = recurrence.slopes(states, "relu", leak), a < -margin, a > margin
    assert dead.any() and not slopes[dead].any()
    if dtype != torch.bfloat16:  # in which a small activation drowns in a large state
        assert alive.any() and (slopes[alive] == torch.tensor(leak, dtype=dtype)).all()


@pytest.mark.parametrize(
    "keep",
    [None, [1.0] * L, [0.0] * L, [1, 1, 0, 1, 0, 0, 1], [0.0, 0.5, 2.0, -1.0, 0.0, 1.0, 0.25]],
)
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("phi", NONLINEARITIES)
def test_adjoint_sweep_is_the_explicit_loop(phi, leak, keep):
    weights = make_weights()
    states = recurrence.unroll(draw(L, N, I), draw(N, H), weights, phi, leak)
    q, slopes = draw(L, N, H), recurrence.slopes(states, phi, leak)
    c, delta = torch.zeros(L + 1, N, H).double(), torch.zeros(L + 1, N, H).double()
    for t in reversed(range(L)):
        factor = 0 if t == L - 1 else 1 if keep is None else keep[t + 1]
        handed = (1 - leak) * c[t + 1] + delta[t + 1] @ weights.hh
        c[t] = q[t] + factor * handed
        delta[t] = slopes[t] * c[t]
    q_before, states_before = q.clone(), states.clone()
    swept = recurrence.adjoint_sweep(q, states, weights.hh, phi, leak, keep, record=True)
    torch.testing.assert_close(swept.delta, delta[:-1])
    torch.testing.assert_close(swept.credit, c[:-1])
    torch.testing.assert_close(swept.first, c[0])
    assert torch.equal(q, q_before) and torch.equal(states, states_before)
    unrecorded = recurrence.adjoint_sweep(q, states, weights.hh, phi, leak, keep)
    assert unrecorded.credit is None and torch.equal(unrecorded.delta, swept.delta)


@pytest.mark.parametrize("leak", LEAKS)
def test_a_cut_holds_back_what_is_not_finite(leak):
    weights = make_weights()
    states = recurrence.unroll(draw(L, N, I), draw(N, H), weights, "tanh", leak)
    q, keep = draw(L, N, H), [0.0 if t == 4 else 1.0 for t in range(L)]
    clean = recurrence.adjoint_sweep(q, states, weights.hh, "tanh", leak, keep).delta
    q[5, 0, 0] = torch.inf
    spoilt = recurrence.adjoint_sweep(q, states, weights.hh, "tanh", leak, keep).delta
    assert torch.equal(spoilt[:4], clean[:4]) and not spoilt[4].isfinite().all()


@pytest.mark.parametrize("steps", [L, 3, 1])
def test_weight_gradients_are_sums_over_steps_and_sequences(steps):
    delta, input, states = draw(steps, N, H), draw(L, N, I), draw(L + 1, N, H)
    ih, hh, bias_ih, bias_hh = recurrence.weight_gradients(delta, input, states)
    torch.testing.assert_close(ih, torch.einsum("lnh,lni->hi", delta, input[L - steps :]))
    torch.testing.assert_close(hh, torch.einsum("lnh,lnk->hk", delta, states[L - steps : L]))
    torch.testing.assert_close(bias_ih, delta.sum((0, 1)))
    torch.testing.assert_close(bias_hh, delta.sum((0, 1)))


@pytest.mark.parametrize("steps", [L, 3, 1])
def test_input_gradient_is_zero_before_delta_begins(steps):
    delta, weight_ih = draw(steps, N, H), draw(H, I)
    gradient = recurrence.input_gradient(delta, L, weight_ih)
    assert gradient.shape == (L, N, I) and not gradient[: L - steps].any()
    expected = torch.einsum("lnh,hi->lni", delta, weight_ih)
    torch.testing.assert_close(gradient[L - steps :], expected)


@pytest.mark.parametrize("leak", LEAKS)
def test_hx_gradient_is_the_first_steps(leak):
    delta, first, weight_hh = draw(L, N, H), draw(N, H), draw(H, H)
    actual = recurrence.hx_gradient(Credit(delta, first), L, weight_hh, leak)
    torch.testing.assert_close(actual, (1 - leak) * first + delta[0] @ weight_hh)
    for credit in (Credit(delta, None), Credit(delta[1:], first)):
        assert not recurrence.hx_gradient(credit, L, weight_hh, leak).any()
