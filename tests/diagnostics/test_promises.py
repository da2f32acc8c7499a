"""What all instruments promise: they look, and touch nothing."""

import copy
from collections.abc import Mapping

import pytest
import torch
from gradients.nets import Net
from torch import Tensor

from bptt_lab.diagnostics import (
    Alignment,
    LagSpectrum,
    alignment,
    credit_flow,
    jacobian_spectrum,
    lag_spectrum,
    lyapunov_spectrum,
    omega,
)
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated

NET = Net(4, 6, num_layers=2, leak=0.5)
STRATEGIES = {"full": Full(), "chunk": Truncated(k=2)}
INSTRUMENTS = {
    "lag_spectrum": lag_spectrum,
    "credit_flow": credit_flow,
    "omega": omega,
    "jacobian_spectrum": lambda rnn, input, loss, hx=None: jacobian_spectrum(rnn, input, hx, lag=2),
    "lyapunov_spectrum": lambda rnn, input, loss, hx=None: lyapunov_spectrum(rnn, input, hx),
    "alignment": lambda rnn, input, loss, hx=None: alignment(
        rnn, input, loss, STRATEGIES, hx, draws=2
    ),
}


def tensors(result: object) -> list[Tensor]:
    """All tensors of a result, derived ones included."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, LagSpectrum):
        result = (result.parts, result.full, result.norms, result.relative_error)
    if isinstance(result, Alignment):
        result = (result.pairwise, result.strategies)
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, float):
        return [torch.tensor(result)]
    return [tensor for part in result for tensor in tensors(part)]


def assert_equal(result, expected):
    for one, other in zip(tensors(result), tensors(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(params=INSTRUMENTS)
def instrument(request):
    return INSTRUMENTS[request.param]


def test_leaves_net_gradients_and_random_numbers_alone(instrument):
    rnn, (input, hx) = NET.rnn(dropout=0.5), NET.data()
    readout = torch.nn.Linear(4, 1, dtype=torch.float64)
    for parameter in rnn.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, random = copy.deepcopy(rnn.state_dict()), torch.get_rng_state()
    result = instrument(rnn, input, lambda output: readout(output).square().sum(), hx)
    assert torch.equal(torch.get_rng_state(), random)
    assert rnn.training
    for name, parameter in rnn.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(parameter.grad, torch.ones_like(parameter))
        assert parameter.requires_grad
    assert [p.grad for p in (input, hx, *readout.parameters())] == [None] * 4
    assert not any(tensor.requires_grad for tensor in tensors(result))


def test_drops_nothing_and_ignores_the_nets_own_strategy(instrument):
    input, hx = NET.data()
    plain = instrument(NET.rnn(), input, NET.loss_of, hx)
    other = instrument(NET.rnn(Truncated(k=1), dropout=0.5), input, NET.loss_of, hx)
    assert_equal(other, plain)


def test_starts_from_zeros_by_default_and_twice_from_the_same(instrument):
    rnn, (input, hx) = NET.rnn(), NET.data()
    zeros = instrument(rnn, input, NET.loss_of, torch.zeros_like(hx))
    assert_equal(instrument(rnn, input, NET.loss_of), zeros)


def test_works_where_gradients_are_switched_off(instrument):
    rnn, (input, hx) = NET.rnn(), NET.data()
    expected = instrument(rnn, input, NET.loss_of, hx)
    with torch.no_grad():
        assert_equal(instrument(rnn, input, NET.loss_of, hx), expected)


def test_float32_gives_the_same_figures(instrument):
    rnn, (input, hx) = NET.rnn(dtype=torch.float32), NET.data(torch.float32)
    single = instrument(rnn, input, NET.loss_of, hx)
    double = instrument(NET.rnn(), *(NET.data()[0], NET.loss_of, NET.data()[1]))
    for one, other in zip(tensors(single), tensors(double), strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-3, atol=1e-3, equal_nan=True, check_dtype=False
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [n for n in INSTRUMENTS if n != "alignment"])
def test_refuses_a_net_that_has_diverged(name, value):
    rnn, (input, hx) = NET.rnn(), NET.data()
    with torch.no_grad():
        rnn.weight_hh_l1[0, 0] = value
    with pytest.raises(FloatingPointError, match="layer 1: weights or states are inf or NaN"):
        INSTRUMENTS[name](rnn, input, NET.loss_of, hx)
