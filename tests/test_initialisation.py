from __future__ import annotations

import pytest
import torch
from runs import config

from bptt_lab import VanillaRNN
from bptt_lab.core.random import generator
from bptt_lab.nn.initialisation import initialise
from bptt_lab.training.build import build


def start(init, gain=1.0, spectral_radius=None, seed=0, hidden_size=40, num_layers=2):
    rnn = VanillaRNN(3, hidden_size, num_layers, dtype=torch.float64)
    initialise(rnn, init, gain, spectral_radius, generator(seed, "weights"))
    return rnn


def recurrent(rnn):
    return [weight_hh.detach() for _, weight_hh, *_ in rnn.all_weights]


def test_uniform_has_the_bounds_of_nn_rnn():
    for parameter in start("uniform").parameters():
        assert float(parameter.detach().abs().max()) <= 40**-0.5
    weight = recurrent(start("uniform"))[0]
    assert float(weight.std()) == pytest.approx(40**-0.5 / 3**0.5, rel=0.05)


def test_orthogonal_keeps_lengths_times_gain():
    for weight in recurrent(start("orthogonal", gain=1.5)):
        torch.testing.assert_close(weight @ weight.T, 2.25 * torch.eye(40, dtype=torch.float64))


def test_identity_is_the_irnn():
    rnn = start("identity")
    for weight in recurrent(rnn):
        assert torch.equal(weight, torch.eye(40, dtype=torch.float64))
    assert not rnn.bias_ih_l0.any() and not rnn.bias_hh_l1.any()


def test_zero_biases_leave_the_weights_alone():
    plain, without = VanillaRNN(3, 5, 2), VanillaRNN(3, 5, 2)
    initialise(plain, "uniform", 1.0, None, generator(0, "weights"))
    initialise(without, "uniform", 1.0, None, generator(0, "weights"), zero_bias=True)
    for (name, one), other in zip(plain.named_parameters(), without.parameters(), strict=True):
        assert not other.any() if "bias" in name else torch.equal(one, other)
        assert one.any()


def test_zero_bias_is_of_the_whole_network():
    plain, without = (
        build(config("dataset=echo", "model=elman", f"model.zero_bias={zero}")).module
        for zero in ("false", "true")
    )
    for (name, one), other in zip(plain.named_parameters(), without.parameters(), strict=True):
        assert not other.any() if "bias" in name else torch.equal(one, other)
        assert one.any()


def test_gaussian_has_standard_deviation_gain_over_root_h():
    weight = recurrent(start("gaussian", gain=2.0, hidden_size=200, num_layers=1))[0]
    assert float(weight.std()) == pytest.approx(2 / 200**0.5, rel=0.02)
    assert float(torch.linalg.eigvals(weight).abs().max()) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("init", ["uniform", "orthogonal", "identity", "gaussian"])
def test_spectral_radius_is_what_was_asked_for(init):
    for weight in recurrent(start(init, spectral_radius=0.7)):
        assert float(torch.linalg.eigvals(weight).abs().max()) == pytest.approx(0.7)


def test_layers_differ_seeds_differ_and_draws_repeat():
    first, second = recurrent(start("orthogonal"))
    assert not torch.equal(first, second)
    assert torch.equal(first, recurrent(start("orthogonal"))[0])
    assert not torch.equal(first, recurrent(start("orthogonal", seed=1))[0])


def test_global_generator_is_left_alone():
    rnn = VanillaRNN(3, 4)
    before = torch.get_rng_state()
    initialise(rnn, "orthogonal", 1.0, None, generator(0, "weights"))
    assert torch.equal(before, torch.get_rng_state())


def test_refusals():
    with pytest.raises(ValueError, match="init=zeros: must be one of uniform"):
        start("zeros")
    with pytest.raises(ValueError, match="spectral radius 0"):
        start("uniform", gain=0.0, spectral_radius=1.0)
