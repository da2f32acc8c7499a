"""Alignment against plain gradients, and its statistics against toy strategies' closed form."""

import math
import statistics

import pytest
import torch
from gradients.nets import Net, gradients

from bptt_lab.core.validation import ConfigError
from bptt_lab.diagnostics import alignment
from bptt_lab.gradients.autograd import Autograd
from bptt_lab.gradients.base import Carry, GradientStrategy, Unrolled
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated

NET = Net(4, 7, num_layers=2, leak=0.5)
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


class _Add(torch.autograd.Function):
    """The identity, whose backward adds something to the parameters' gradient."""

    @staticmethod
    def forward(ctx, output, shift, *parameters):
        ctx.shift = shift
        return output.clone()

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output, None, *ctx.shift


class Noisy(GradientStrategy):
    """Full BPTT plus a constant and noise, both of the same size in every entry."""

    exact_within_chunk = exact_across_chunks = unbiased = False
    cost = space = ""

    def __init__(self, sigma: float, bias: float = 0.0) -> None:
        self.sigma, self.bias = sigma, bias
        self.random = torch.Generator().manual_seed(0)
        self.carries: list[Carry] = []

    def states(self, rnn, input, carry, lengths=None):
        self.carries.append(carry)
        output, h_n, *_ = Full().states(rnn, input, carry, lengths)
        shift = [
            self.bias + self.sigma * torch.randn(p.shape, generator=self.random, dtype=p.dtype)
            for p in rnn.parameters()
        ]
        return Unrolled(_Add.apply(output, shift, *rnn.parameters()), h_n)

    def credit(self, rnn, input, hx, q, *, after=None):
        raise NotImplementedError


def aligned(strategies, net=NET, **settings):
    input, hx = net.data()
    return alignment(net.rnn(), input, net.loss_of, strategies, hx, **settings)


def flat(strategy, net=NET):
    names = [name for name, _ in net.rnn().named_parameters()]
    found = gradients(strategy, net)
    return torch.cat([found[name].flatten() for name in names])


STRATEGIES = {
    "full": Full(),
    "autograd": Autograd(),
    "chunk": Truncated(k=2),
    "lag": Truncated(k=3, mode="lag"),
    "tail": Truncated(k=1, mode="tail"),
}


class TestDeterministic:
    @pytest.mark.parametrize("draws", [1, 3])
    def test_figures_are_what_comparing_gradients_gives(self, draws):
        result, g = aligned(STRATEGIES, draws=draws), flat(Full())
        assert list(result.strategies) == list(STRATEGIES)
        for name, strategy in STRATEGIES.items():
            one, figures = flat(strategy), result[name]
            cosine = float(torch.cosine_similarity(one, g, dim=0))
            assert figures.cosine.value == pytest.approx(cosine, abs=1e-10)
            ratio, error = one.norm() / g.norm(), (one - g).norm() / g.norm()
            assert figures.norm_ratio.value == pytest.approx(float(ratio), abs=1e-10)
            assert figures.relative_error.value == pytest.approx(float(error), abs=1e-10)

    def test_pairwise(self):
        columns = torch.stack([flat(strategy) for strategy in STRATEGIES.values()])
        units = columns / columns.norm(dim=1, keepdim=True)
        torch.testing.assert_close(aligned(STRATEGIES).pairwise, units @ units.T, **CLOSE)

    def test_one_draw_says_nothing_of_noise(self):
        figures = aligned(STRATEGIES)["chunk"]
        assert math.isnan(figures.cosine.standard_error)
        assert all(math.isnan(n) for e in figures[3:] for n in e)

    @pytest.mark.parametrize("draws", [2, 5])
    def test_equal_draws_have_no_variance(self, draws):
        figures = aligned(STRATEGIES, draws=draws)["chunk"]
        assert figures.bias.value == pytest.approx(figures.relative_error.value)
        assert figures.bias.standard_error == 0
        assert figures.variance.value == 0
        assert figures.snr.value == math.inf
        assert figures.cosine.standard_error < 1e-15

    def test_zero_gradients(self):
        input, hx = NET.data()
        tail = {"tail": Truncated(k=1, mode="tail"), "full": Full()}
        result = alignment(NET.rnn(), input, lambda output: output[0].sum(), tail, hx, draws=3)
        figures = result["tail"]
        assert math.isnan(figures.cosine.value)
        assert (figures.norm_ratio.value, figures.relative_error.value) == (0, 1)
        assert (figures.bias.value, figures.variance.value) == (1, 0)
        assert result.pairwise.isnan().tolist() == [[True, True], [True, False]]
        result = alignment(NET.rnn(), input, lambda output: (output * 0).sum(), tail, hx, draws=3)
        for figures in result.strategies.values():
            assert all(math.isnan(estimate.value) for estimate in figures)


class TestStochastic:
    size = sum(p.numel() for p in NET.rnn().parameters())
    scale = float(flat(Full()).norm())

    @pytest.mark.parametrize("bias", [0.0, 0.3])
    def test_figures_meet_closed_form_within_their_standard_errors(self, bias):
        sigma, draws = 2.0, 400
        figures = aligned({"noisy": Noisy(sigma, bias)}, draws=draws)["noisy"]
        V = self.size * sigma**2
        mean = flat(Full()) + bias
        variance, snr = V / self.scale**2, float(mean @ mean) / V
        for estimate, expected in ((figures.variance, variance), (figures.snr, snr)):
            assert 0 < estimate.standard_error < 0.2 * expected
            assert abs(estimate.value - expected) < 4 * estimate.standard_error
        noise = math.sqrt(V / draws) / self.scale
        assert figures.bias.standard_error == pytest.approx(noise, rel=0.1)
        expected = math.hypot(bias * math.sqrt(self.size) / self.scale, noise)
        assert figures.bias.value == pytest.approx(expected, rel=0.3)
        assert (figures.bias.value > 2 * figures.bias.standard_error) == (bias > 0)

    def test_standard_errors_are_how_much_figures_differ_between_repetitions(self):
        strategies = {str(n): Noisy(0.5) for n in range(150)}
        for n, strategy in enumerate(strategies.values()):
            strategy.random.manual_seed(n)
        figures = aligned(strategies, draws=12).strategies.values()
        for name in ("cosine", "norm_ratio", "relative_error", "variance", "snr"):
            values, errors = torch.tensor([getattr(f, name) for f in figures]).double().T
            assert float(errors.square().mean().sqrt() / values.std()) == pytest.approx(1, abs=0.25)

    def test_means_over_draws_are_of_single_draws(self):
        one, several = Noisy(1.0), Noisy(1.0)
        singles = [aligned({"noisy": one})["noisy"] for _ in range(5)]
        together = aligned({"noisy": several}, draws=5)["noisy"]
        for name in ("cosine", "norm_ratio", "relative_error"):
            values = [getattr(single, name).value for single in singles]
            estimate = getattr(together, name)
            assert estimate.value == pytest.approx(statistics.mean(values), rel=1e-10)
            error = statistics.stdev(values) / math.sqrt(5)
            assert estimate.standard_error == pytest.approx(error, rel=1e-8)

    def test_statistics_and_their_jackknife_spelt_out(self):
        n, g, random = 5, flat(Full()), torch.Generator().manual_seed(0)
        shapes = [p.shape for p in NET.rnn().parameters()]

        def noise():
            draw = [torch.randn(s, generator=random, dtype=torch.float64) for s in shapes]
            return torch.cat([tensor.flatten() for tensor in draw])

        draws = torch.stack([g + 0.3 + 2 * noise() for _ in range(n)])

        def statistics_of(draws):
            mean, V = draws.mean(0), draws.var(0, correction=1).sum()
            return torch.stack([V / (g @ g), mean @ mean / V - 1 / len(draws)])

        without = torch.stack(
            [statistics_of(torch.cat([draws[:i], draws[i + 1 :]])) for i in range(n)]
        )
        errors = ((n - 1) / n * (without - without.mean(0)).square().sum(0)).sqrt()
        figures = aligned({"noisy": Noisy(2.0, 0.3)}, draws=n)["noisy"]
        expected = torch.stack([statistics_of(draws), errors], 1).tolist()
        assert figures.variance == pytest.approx(expected[0], rel=1e-8)
        assert figures.snr == pytest.approx(expected[1], rel=1e-8)
        bias = (draws.mean(0) - g).norm() / g.norm()
        assert figures.bias.value == pytest.approx(float(bias), rel=1e-8)

    def test_noise_about_a_gradient_of_zero(self):
        input, hx = NET.data()
        noisy = {"noisy": Noisy(1.0)}
        result = alignment(NET.rnn(), input, lambda output: (output * 0).sum(), noisy, hx, draws=3)
        *figures, snr = result["noisy"]
        assert all(math.isnan(figure.value) for figure in figures)
        assert math.isfinite(snr.value)

    def test_two_draws_have_a_variance_without_a_standard_error(self):
        figures = aligned({"noisy": Noisy(1.0)}, draws=2)["noisy"]
        assert figures.variance.value > 0
        assert math.isnan(figures.variance.standard_error)
        assert math.isfinite(figures.snr.value)

    def test_every_draw_has_its_index_and_no_influence(self):
        strategy = Noisy(1.0)
        aligned({"noisy": strategy}, draws=3)
        assert [(c.draw, c.influence) for c in strategy.carries] == [(n, None) for n in range(3)]

    def test_a_strategy_goes_on_after_a_carry(self):
        strategy, _ = Noisy(1.0), NET.data()
        after = {"noisy": Carry(torch.ones(()), 1.0, draw=7, estimate={"k": 3})}
        aligned({"noisy": strategy, "full": Full()}, draws=2, after=after)
        found = [(c.draw, c.influence, c.estimate) for c in strategy.carries]
        assert found == [(7, None, {"k": 3}), (8, None, {"k": 3})]


def test_frozen_parameters_count():
    input, hx = NET.data()
    rnn = NET.rnn()
    for parameter in rnn.parameters():
        parameter.requires_grad_(False)
    result = alignment(rnn, input, NET.loss_of, STRATEGIES, hx)
    assert torch.equal(result.pairwise, aligned(STRATEGIES).pairwise)
    assert not any(parameter.requires_grad for parameter in rnn.parameters())


def test_refuses_no_draws_and_no_strategies():
    with pytest.raises(ConfigError, match="draws=0: must be at least 1"):
        aligned(STRATEGIES, draws=0)
    with pytest.raises(ConfigError, match=r"strategies=\{\}: must hold at least one"):
        aligned({})
