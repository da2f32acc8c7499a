"""Jacobians, Lyapunov exponents and Omega against autograd and in closed form."""

import math

import pytest
import torch
from gradients.nets import PHI, Net, unroll_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from bptt_lab.core.validation import ConfigError
from bptt_lab.diagnostics import jacobian_spectrum, lyapunov_spectrum, omega
from bptt_lab.nn.rnn import VanillaRNN

from .flow_by_autograd import credit
from .test_flow import contracting

NETS = [
    Net(4, 7, batch_size=2),
    Net(4, 6, batch_size=2, num_layers=2, nonlinearity="sigmoid", leak=0.5),
    Net(4, 6, batch_size=2, num_layers=2, nonlinearity="relu", leak=0.4, bias=False),
]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def jacobians(net: Net, layer: int) -> torch.Tensor:
    """dh_t/dh_{t-1} by torch's own differentiation, a row at a time, (T, N, H, H)."""
    rnn, (input, hx) = net.rnn(), net.data()
    x_LNI = unroll_by_hand(rnn, input, hx)[layer].x
    weight_ih, weight_hh, *biases = rnn.all_weights[layer]
    h, steps = hx[layer].detach(), []
    for x in x_LNI:
        before = h.detach().requires_grad_()
        phi = PHI[rnn.nonlinearity](x @ weight_ih.T + before @ weight_hh.T + sum(biases))
        h = (1 - rnn.leak) * before + rnn.leak * phi
        rows = [torch.autograd.grad(unit.sum(), before, retain_graph=True)[0] for unit in h.T]
        steps.append(torch.stack(rows, 1))
    return torch.stack(steps)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_singular_values_are_those_of_the_products(net, lag):
    layer = net.num_layers - 1
    J, (input, hx) = jacobians(net, layer), net.data()
    spectrum = jacobian_spectrum(net.rnn(), input, hx, lag=lag, layer=layer)
    expected = []
    for s in range(net.num_steps - lag + 1):
        product = torch.eye(4).double()
        for step in range(s, s + lag):
            product = J[step] @ product
        expected.append(torch.linalg.svdvals(product))
    torch.testing.assert_close(spectrum.singular_values, torch.stack(expected), **CLOSE)


def test_numbers_of_w_hh():
    rnn = VanillaRNN(1, 3, dtype=torch.float64)
    W = torch.tensor([[0.0, 2, 0], [-2, 0, 0], [0, 0, 0.5]]).double()
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(W)
    spectrum = jacobian_spectrum(rnn, torch.zeros(2, 1, 1, dtype=torch.float64))
    eigenvalues = sorted(spectrum.eigenvalues.tolist(), key=lambda z: z.imag)
    assert eigenvalues == pytest.approx([-2j, 0.5, 2j])
    figures = spectrum.spectral_radius, spectrum.spectral_norm, spectrum.condition_number
    assert figures == pytest.approx((2, 2, 4))
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(torch.diag(torch.tensor([1.0, 2, 0])))
        rnn.weight_hh_l0[0, 1] = 10  # not normal: its norm is far above its radius
    spectrum = jacobian_spectrum(rnn, torch.zeros(2, 1, 1, dtype=torch.float64))
    assert spectrum.spectral_radius == pytest.approx(2)
    assert spectrum.spectral_norm > 10
    assert spectrum.condition_number == math.inf


@pytest.mark.parametrize("leak", [1.0, 0.25])
def test_saturation_is_the_mean_slope_of_phi(leak):
    rnn = VanillaRNN(1, 2, leak=leak, dtype=torch.float64)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.bias_ih_l0.copy_(torch.tensor([0.0, 1.0]))
    spectrum = jacobian_spectrum(rnn, torch.zeros(3, 2, 1, dtype=torch.float64))
    assert spectrum.saturation == pytest.approx((1 + 1 - math.tanh(1) ** 2) / 2)
    with torch.no_grad():
        rnn.bias_ih_l0.fill_(50)
    assert jacobian_spectrum(rnn, torch.zeros(3, 2, 1).double()).saturation == 0


@given(
    st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 8), st.floats(0.1, 4), st.booleans()
)
@settings(max_examples=100)
def test_a_product_never_exceeds_the_bound(seed, hidden_size, lag, gain, single):
    random = torch.Generator().manual_seed(seed)
    rnn = VanillaRNN(2, hidden_size, dtype=torch.float32 if single else torch.float64)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.normal_(0, gain / hidden_size**0.5, generator=random)
    input = torch.randn(8, 3, 2, generator=random, dtype=rnn.weight_hh_l0.dtype)
    spectrum = jacobian_spectrum(rnn, input, lag=lag)
    bound = spectrum.spectral_norm**lag
    assert float(spectrum.singular_values.max()) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("burn_in", [0, 3])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_exponents_add_up_to_the_mean_log_determinant(net, burn_in):
    layer = net.num_layers - 1
    input, hx = net.data()
    exponents = lyapunov_spectrum(net.rnn(), input, hx, layer=layer, burn_in=burn_in)
    expected = torch.linalg.slogdet(jacobians(net, layer)).logabsdet[burn_in:].mean(0)
    assert exponents.shape == (net.batch_size, net.hidden_size)
    assert (exponents.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(exponents.sum(-1), expected, rtol=0, atol=1e-8)


def test_exponents_of_a_large_net_over_a_long_run_add_up_too():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rnn = VanillaRNN(1, 64, dtype=torch.float64)
        torch.nn.init.normal_(rnn.weight_hh_l0, std=2 / 8)
        input, hx = torch.randn(200, 2, 1).double(), torch.randn(1, 2, 64).double()
    exponents = lyapunov_spectrum(rnn, input, hx)
    with torch.no_grad():
        output, _ = rnn(input, hx)
    slopes = (1 - output**2).abs().log().sum(-1).mean(0)
    expected = slopes + torch.linalg.slogdet(rnn.weight_hh_l0).logabsdet
    torch.testing.assert_close(exponents.sum(-1), expected, rtol=0, atol=1e-8)


def test_exponents_of_a_linear_net_are_the_log_moduli_of_its_eigenvalues():
    rnn = VanillaRNN(1, 3, nonlinearity="identity", dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(torch.tensor([[0.5, 3, 1], [0, 1.25, 7], [0, 0, -0.1]]))
    input = torch.zeros(400, 1, 1, dtype=torch.float64)
    exponents = lyapunov_spectrum(rnn, input, burn_in=200)
    expected = torch.tensor([1.25, 0.5, 0.1]).double().log()
    torch.testing.assert_close(exponents[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", ["sum", "last"])
@pytest.mark.parametrize("net", [*NETS, Net(4, 1)], ids=str)
def test_omega_is_what_autograd_says(net, loss):
    net = net._replace(loss=loss)
    rnn, (input, hx) = net.rnn(), net.data()
    credits = credit(rnn, input, net.loss_of, hx).sum(1)
    for layer in range(net.num_layers):
        c, J = credits[layer], jacobians(net, layer)
        handed = (c.unsqueeze(-2) @ J).squeeze(-2)
        expected = (handed.norm(dim=-1) / c.norm(dim=-1) - 1).square().sum(0).mean()
        actual = omega(rnn, input, net.loss_of, hx, layer=layer)
        torch.testing.assert_close(actual, expected, **CLOSE)


def test_omega_of_an_orthogonal_linear_net_is_zero():
    rnn = contracting([1.0], dtype=torch.float64)
    value = omega(rnn, torch.randn(50, 3, 2).double(), lambda output: output.square().sum())
    assert float(value) == pytest.approx(0, abs=1e-20)


def test_omega_counts_steps_whose_credit_float32_cannot_hold():
    rnn = contracting([0.25])
    value = omega(rnn, torch.zeros(200, 3, 2), lambda output: output[-1].sum())
    assert float(value) == pytest.approx(200 * 0.75**2, rel=1e-5)


def test_omega_counts_nothing_where_there_is_no_credit():
    rnn, input = contracting([0.25]), torch.zeros(9, 2, 2)
    early = omega(rnn, input, lambda output: output[3, 0].sum())
    # One of two sequences, four steps.
    assert float(early) == pytest.approx(4 * 0.75**2 / 2, rel=1e-5)
    assert float(omega(rnn, input, lambda output: (output * 0).sum())) == 0


class TestRefusals:
    net = NETS[0]

    @pytest.mark.parametrize(
        ("instrument", "settings", "message"),
        [
            (jacobian_spectrum, {"lag": 0}, "lag=0: must be at least 1"),
            (jacobian_spectrum, {"lag": 8}, "lag=8: must be at most 7"),
            (jacobian_spectrum, {"layer": 1}, "layer=1: must be less than 1"),
            (lyapunov_spectrum, {"layer": -1}, "layer=-1: must be at least 0"),
            (lyapunov_spectrum, {"burn_in": 7}, "burn_in=7: must be less than 7"),
        ],
    )
    def test_out_of_range(self, instrument, settings, message):
        input, hx = self.net.data()
        with pytest.raises(ConfigError, match=message):
            instrument(self.net.rnn(), input, hx, **settings)

    def test_omega_of_a_layer_that_is_not_there(self):
        input, hx = self.net.data()
        with pytest.raises(ConfigError, match="layer=3: must be less than 1"):
            omega(self.net.rnn(), input, self.net.loss_of, hx, layer=3)
