"""The grader's own truth against the oracle, autograd and finite states of a real network."""

import numpy as np
import pytest
import torch

from bptt_lab import VanillaRNN
from bptt_lab.commands.homework import adjoint, forward, rtrl, truncation, weights
from bptt_lab.commands.homework.masks import chunk, lag
from bptt_lab.gradients.oracle import masked_gradient, terms

T, N, I, H = 5, 3, 2, 4


@pytest.fixture
def network():
    """A network, its input and first state, the weights of a linear loss, and its states."""
    torch.manual_seed(0)
    rnn = VanillaRNN(I, H, dtype=torch.float64)
    with torch.no_grad():
        rnn.bias_hh_l0.zero_()
    input, hx, q = (torch.randn(*s, dtype=torch.float64) for s in ((T, N, I), (N, H), (T, N, H)))
    with torch.no_grad():
        output, _ = rnn(input, hx[None])
    return rnn, input, hx, q, output


def numpy(*tensors):
    return [t.detach().numpy() for t in tensors]


def test_the_forward_pass(network):
    rnn, input, hx, _, output = network
    own = forward.right(
        *numpy(input, hx),
        forward.Weights(*numpy(rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0)),
    )
    np.testing.assert_allclose(own["output"], output, rtol=1e-12)
    np.testing.assert_array_equal(own["h_n"], own["output"][-1])


@pytest.mark.parametrize("k", [1, 2, 3, 9])
@pytest.mark.parametrize("keeps", [chunk, lag])
def test_truncated_gradients_are_the_oracles(network, keeps, k):
    rnn, input, hx, q, output = network
    every = terms(rnn, input, lambda states: (q * states).sum() / N, hx[None])
    mask = torch.tensor([[keeps(t, s, k) for s in range(1, T + 1)] for t in range(1, T + 1)])
    oracle = masked_gradient(every, mask)
    given = truncation.Setting(*numpy(q, input, output, hx, rnn.weight_hh_l0), k)
    own = truncation.right(keeps, given)
    for name, other in (("weight_ih", "weight_ih_l0"), ("weight_hh", "weight_hh_l0")):
        np.testing.assert_allclose(own[name], oracle[other], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(own["bias"], oracle["bias_ih_l0"], rtol=1e-10, atol=1e-14)


def test_the_sweep_and_rtrl_give_the_same_gradient(network):
    rnn, input, hx, q, output = network
    q, input, h, first, weight_hh = numpy(q, input, output, hx, rnn.weight_hh_l0)
    delta = adjoint.right(q, h, weight_hh)["delta"]
    swept = weights.right(delta, input, h, first)["weight_hh"]
    influence, total = np.zeros((N, H, H, H)), 0
    for t in range(T):
        before = h[t - 1] if t else first
        step = rtrl.right(rtrl.Given(influence, q[t], h[t], before, weight_hh))
        influence, total = step["influence"], total + step["gradient"]
    np.testing.assert_allclose(total, swept, rtol=1e-12)
