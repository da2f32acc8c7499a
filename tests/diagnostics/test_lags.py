"""The lag spectrum against the oracle, the truncated strategies and its definitions."""

import math

import pytest
import torch
from gradients.nets import INPUT_SIZE, Net, gradients, oracle_terms

from bptt_lab.core.validation import ConfigError
from bptt_lab.diagnostics import LagSpectrum, lag_spectrum
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.oracle import lag_terms
from bptt_lab.gradients.truncated import Truncated
from bptt_lab.nn.rnn import VanillaRNN

NETS = [
    Net(4, 7),
    Net(4, 7, batch_size=3, num_layers=2, nonlinearity="relu", leak=0.5),
    Net(4, 7, num_layers=3, loss="last"),
    Net(5, 6, nonlinearity="sigmoid", leak=0.3, loss="last", bias=False),
    Net(3, 1, num_layers=2),
]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def spectrum_of(net, **settings):
    input, hx = net.data()
    return lag_spectrum(net.rnn(), input, net.loss_of, hx, **settings)


@pytest.mark.parametrize("net", NETS, ids=str)
class TestIdentities:
    def test_parts_are_the_oracles(self, net):
        parts, expected = spectrum_of(net).parts, lag_terms(oracle_terms(net))
        assert parts.keys() == expected.keys()
        for name, G in expected.items():
            torch.testing.assert_close(parts[name], G, **CLOSE)

    def test_they_add_up_to_the_full_gradient(self, net):
        spectrum, expected = spectrum_of(net), gradients(Full(), net)
        for name, G in spectrum.parts.items():
            torch.testing.assert_close(spectrum.full[name], expected[name], **CLOSE)
            torch.testing.assert_close(G.sum(0), expected[name], **CLOSE)

    def test_the_first_k_add_up_to_truncation_at_lag_k(self, net):
        parts = spectrum_of(net).parts
        for k in range(1, net.num_steps + 1):
            expected = gradients(Truncated(k=k, mode="lag"), net)
            for name, G in parts.items():
                torch.testing.assert_close(G[:k].sum(0), expected[name], **CLOSE)

    def test_curves_are_what_comparing_gradients_gives(self, net):
        spectrum, names = spectrum_of(net), list(spectrum_of(net).parts)
        g = gradients(Full(), net)
        for k in range(1, net.num_steps + 1):
            g_k = gradients(Truncated(k=k, mode="lag"), net)
            for name in [*names, "total"]:
                one, other = (
                    torch.cat([x[n].flatten() for n in (names if name == "total" else [name])])
                    for x in (g_k, g)
                )
                cosine = torch.cosine_similarity(one, other, dim=0)
                error = (one - other).norm() / other.norm()
                torch.testing.assert_close(spectrum.cosine[name][k - 1], cosine, **CLOSE)
                torch.testing.assert_close(spectrum.relative_error[name][k - 1], error, **CLOSE)

    def test_norms_and_projections(self, net):
        spectrum = spectrum_of(net)
        flat = {name: G.flatten(1) for name, G in spectrum.parts.items()}
        flat["total"] = torch.cat(list(flat.values()), 1)
        assert spectrum.norms.keys() == flat.keys()
        for name, G in flat.items():
            g = G.sum(0)
            torch.testing.assert_close(spectrum.norms[name], G.norm(dim=1), **CLOSE)
            torch.testing.assert_close(spectrum.projections[name], G @ g / (g @ g), **CLOSE)
            torch.testing.assert_close(float(spectrum.projections[name].sum()), 1.0, **CLOSE)


def test_a_loss_in_the_middle_leaves_later_steps_and_long_lags_alone():
    net = Net(4, 9, num_layers=2)
    rnn, (input, hx) = net.rnn(), net.data()

    def loss(output):
        return output[3].square().sum() + output[5].sum()

    spectrum = lag_spectrum(rnn, input, loss, hx)
    shorter = lag_spectrum(rnn, input[:6], loss, hx)
    for name, G in spectrum.parts.items():
        torch.testing.assert_close(G[:6], shorter.parts[name], **CLOSE)
        assert not G[6:].any()
        torch.testing.assert_close(spectrum.full[name], shorter.parts[name].sum(0), **CLOSE)


@pytest.mark.parametrize("max_lag", [1, 3, 7, 50])
def test_max_lag_cuts_the_parts_and_nothing_else(max_lag):
    whole, cut = spectrum_of(NETS[1]), spectrum_of(NETS[1], max_lag=max_lag)
    for name, G in whole.parts.items():
        assert torch.equal(cut.parts[name], G[:max_lag])
        assert torch.equal(cut.full[name], whole.full[name])
    assert torch.equal(cut.relative_error["total"], whole.relative_error["total"][:max_lag])
    assert torch.equal(cut.cosine["total"], whole.cosine["total"][:max_lag])


def test_float32_is_float64_to_rounding():
    rnn, (input, hx) = NETS[1].rnn().float(), NETS[1].data(torch.float32)
    spectrum = lag_spectrum(rnn, input, NETS[1].loss_of, hx)
    for name, G in spectrum_of(NETS[1]).parts.items():
        assert spectrum.parts[name].dtype == torch.float32
        torch.testing.assert_close(spectrum.parts[name].double(), G, rtol=1e-4, atol=1e-4)


class TestSummaries:
    """On parts whose answers can be read off."""

    # Along the first axis; g = 8, and g_k = 4, 2, 6, 8.
    spectrum = LagSpectrum(
        {"w": torch.tensor([[4.0, 0], [-2, 0], [4, 0], [2, 0]], dtype=torch.float64)},
        {"w": torch.tensor([8.0, 0], dtype=torch.float64)},
    )

    def test_curves(self):
        assert self.spectrum.norms["w"].tolist() == [4, 2, 4, 2]
        assert self.spectrum.projections["total"].tolist() == [0.5, -0.25, 0.5, 0.25]
        assert self.spectrum.relative_error["w"].tolist() == [0.5, 0.75, 0.25, 0]
        assert self.spectrum.cosine["w"].tolist() == [1, 1, 1, 1]

    @pytest.mark.parametrize(
        ("share", "k"), [(0.1, 1), (4 / 12, 1), (0.34, 2), (0.5, 2), (0.6, 3), (0.9, 4), (1, 4)]
    )
    def test_effective_lag(self, share, k):
        assert self.spectrum.effective_lag(share) == k
        assert self.spectrum.effective_lag(share, "w") == k

    @pytest.mark.parametrize(("bias", "k"), [(0.75, 1), (0.6, 3), (0.25, 3), (0.2, 4), (0, 4)])
    def test_smallest_k_looks_past_a_curve_that_rises_again(self, bias, k):
        assert self.spectrum.smallest_k(bias) == k

    def test_none_if_never(self):
        cut = LagSpectrum({"w": self.spectrum.parts["w"][:2]}, self.spectrum.full)
        assert cut.smallest_k(0.6) is None
        assert cut.smallest_k(0.8) == 1

    @pytest.mark.parametrize("share", [0, -0.5, 1.1, math.nan])
    def test_refuses_what_is_no_share(self, share):
        with pytest.raises(ConfigError, match="share="):
            self.spectrum.effective_lag(share)

    def test_refuses_a_negative_bias(self):
        with pytest.raises(ConfigError, match="relative_bias=-1"):
            self.spectrum.smallest_k(-1)


def test_zero_gradients_have_defined_numbers():
    input, hx = NETS[0].data()
    spectrum = lag_spectrum(NETS[0].rnn(), input, lambda output: (output * 0).sum(), hx)
    for name in ("weight_hh_l0", "total"):
        assert not spectrum.norms[name].any()
        for curve in (spectrum.projections, spectrum.cosine, spectrum.relative_error):
            assert curve[name].isnan().all()
    assert spectrum.effective_lag(0.9) is None
    assert spectrum.smallest_k(0.5) is None


def test_a_lag_k_gradient_of_zero_has_no_cosine_but_an_error():
    # Only the last step's input counts for W_ih, and it comes in at the first step.
    rnn = VanillaRNN(1, 2, nonlinearity="identity", bias=False, dtype=torch.float64)
    input = torch.zeros(4, 1, 1, dtype=torch.float64)
    input[0] = 1
    spectrum = lag_spectrum(rnn, input, lambda output: output[-1].sum())
    assert spectrum.cosine["weight_ih_l0"].isnan().tolist() == [True, True, True, False]
    errors = spectrum.relative_error["weight_ih_l0"].tolist()
    assert errors == pytest.approx([1, 1, 1, 0], abs=1e-10)


@pytest.mark.parametrize("max_lag", [0, -3, 1.5, True])
def test_refuses_a_lag_of_nothing(max_lag):
    with pytest.raises(ConfigError, match=f"max_lag={max_lag}: must be"):
        spectrum_of(NETS[0], max_lag=max_lag)


@pytest.mark.parametrize("shape", [(4, INPUT_SIZE), (0, 2, INPUT_SIZE), (4, 0, 3), (4, 2, 1)])
def test_refuses_an_input_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"must be \(T, N, 3\), time first"):
        lag_spectrum(NETS[0].rnn(), torch.zeros(shape, dtype=torch.float64), torch.sum)


def test_refuses_a_state_of_another_shape():
    input, _ = NETS[0].data()
    with pytest.raises(ValueError, match=r"hx of shape \(1, 3, 5\): must be .* = \(1, 3, 4\)"):
        lag_spectrum(NETS[0].rnn(), input, torch.sum, torch.zeros(1, 3, 5, dtype=torch.float64))


def influence_balancing(theta: float) -> tuple[VanillaRNN, torch.Tensor]:
    """A linear net whose short lags all push theta the wrong way: W_hh = A, W_ih = theta v."""
    v = torch.cat([torch.ones(10), -torch.ones(13)]).double()
    rnn = VanillaRNN(1, 23, nonlinearity="identity", bias=False, dtype=torch.float64)
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(torch.eye(23) / 2 + torch.ones(22).diag(1) / 2).requires_grad_(False)
        rnn.weight_ih_l0.copy_(theta * v[:, None])
    return rnn, v


@pytest.mark.parametrize("theta", [-0.5, 0.0, 0.3])
def test_influence_balancing_turns_at_lag_41(theta):
    rnn, v = influence_balancing(theta)
    fixed_point = torch.linalg.solve(torch.eye(23).double() - rnn.weight_hh_l0, theta * v)
    spectrum = lag_spectrum(
        rnn,
        # Long, since lag d has but T - d terms: on 1000 steps the sum turns one lag later.
        torch.ones(4000, 1, 1, dtype=torch.float64),
        lambda output: 0.5 * (output[..., 0] - 1).square().sum(),
        fixed_point.view(1, 1, 23),
        max_lag=200,
    )
    # dE/dtheta, since W_ih = theta v.
    by_lag = (spectrum.parts["weight_ih_l0"].squeeze(-1) @ v).cumsum(0)
    full = float(spectrum.full["weight_ih_l0"].squeeze(-1) @ v)
    # Right is towards theta = -1/6.
    assert (full > 0) == (theta > -1 / 6)
    assert torch.equal(by_lag * full > 0, torch.arange(1, 201) >= 41)
