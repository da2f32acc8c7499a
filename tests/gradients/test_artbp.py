"""ARTBP: the expectation over all cut patterns, and the lengths that it draws."""

import itertools

import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.artbp import ARTBP
from bptt_lab.gradients.full import Full

from .contract import assert_identical, assert_same, random_tensor
from .nets import Net, gradients

HAZARDS = [
    {"mean_length": 1.5},
    {"mean_length": 3},
    {"mean_length": 2.5, "alpha": 2.1},
    {"mean_length": 4, "alpha": 5.0},
]
NETS = [
    Net(2, 4, 2),
    Net(2, 4, 2, num_layers=2, leak=0.5, loss="mean"),
    Net(3, 5, 1, nonlinearity="identity", loss="last"),
]


class GivenCuts(ARTBP):
    """Cuts as told."""

    def __init__(self, pattern: tuple[bool, ...], **settings) -> None:
        super().__init__(**settings)
        self.pattern = pattern

    def keep(self, uniforms):
        assert len(self.pattern) == len(uniforms)
        return super().keep([float(not cut) for cut in self.pattern])


def hazard(steps, mean_length, alpha=None):
    """Eq. (1), written again."""
    if alpha is None:
        return 1 / mean_length
    return (alpha - 1) / ((alpha - 2) * mean_length + steps)


def probability(pattern, settings):
    product, since = 1.0, 0
    for cut in pattern:
        since += 1
        p = hazard(since, **settings)
        product *= p if cut else 1 - p
        since = 0 if cut else since
    return product


def patterns(num_steps, settings):
    """Every cut pattern with its probability."""
    for pattern in itertools.product((False, True), repeat=num_steps - 1):
        yield probability(pattern, settings), GivenCuts(pattern, **settings)


def expectation(weighted):
    total = {}
    for weight, result in weighted:
        for name, value in result.items():
            total[name] = total.get(name, 0) + weight * value
    return total


@pytest.mark.parametrize("net", NETS, ids=str)
@pytest.mark.parametrize("settings", HAZARDS, ids=str)
def test_expectation_over_all_cuts_is_the_full_gradient(settings, net):
    weighted = list(patterns(net.num_steps, settings))
    assert sum(weight for weight, _ in weighted) == pytest.approx(1, abs=1e-14)
    mean = expectation((weight, gradients(strategy, net)) for weight, strategy in weighted)
    assert_same(mean, gradients(Full(), net), "expectation", 1e-12)


@pytest.mark.parametrize("settings", HAZARDS, ids=str)
def test_expectation_with_dropout_is_the_full_gradient(settings):
    net = Net(3, 4, 2, num_layers=2)
    mean = expectation(
        (weight, gradients(strategy, net, dropout=0.4))
        for weight, strategy in patterns(4, settings)
    )
    assert_same(mean, gradients(Full(), net, dropout=0.4), "expectation with dropout", 1e-12)


def test_expectation_of_the_credit_is_the_full_credit():
    net, settings = Net(3, 4, 2, num_layers=2, leak=0.5), {"mean_length": 2.5, "alpha": 3.0}
    (input, hx), q = net.data(), random_tensor(4, 2, 3)

    def credit(strategy):
        return {"credit": strategy.credit(net.rnn(strategy), input.detach(), hx.detach(), q)}

    mean = expectation((weight, credit(strategy)) for weight, strategy in patterns(4, settings))
    assert_same(mean, credit(Full()), "expectation of the credit", 1e-12)


def test_expectation_of_each_chunk_is_full_bptt_of_the_chunk():
    """Cuts of two chunks are independent; nothing crosses from one to the one before."""
    net, settings = Net(2, 6, 2), {"mean_length": 2.0, "alpha": 2.5}

    def summed(first, second):
        rnn, (input, _) = net.rnn(first), net.data()
        carry = first.init_carry(rnn, net.batch_size)
        for strategy, chunk in zip((first, second), input.detach().split(3), strict=True):
            output, carry = strategy.unroll(rnn, chunk, carry)
            net.loss_of(output).backward()
        return {name: p.grad for name, p in rnn.named_parameters()}

    pairs = itertools.product(patterns(3, settings), repeat=2)
    mean = expectation((w * v, summed(one, other)) for (w, one), (v, other) in pairs)
    assert_same(mean, summed(Full(), Full()), "expectation over two chunks", 1e-12)


def test_all_layers_share_the_cuts():
    """Credit that is cut reaches no earlier step, by any layer."""
    net = Net(3, 5, 2, num_layers=3)
    strategy = GivenCuts((False, True, False, False), mean_length=3)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    rnn(input, hx)[0][2:].sum().backward()
    assert not input.grad[:2].any() and not hx.grad.any()
    assert input.grad[2:].any(-1).all()


@pytest.mark.parametrize("settings", HAZARDS, ids=str)
def test_mean_length_by_summing_the_tail(settings):
    """The mean length between cuts is L0: the sum over n of the probability to survive n steps."""
    artbp = ARTBP(**settings)
    survival, mean = 1.0, 0.0
    last = 200_000
    for n in range(1, last + 1):
        mean += survival
        survival *= 1 - artbp.hazard(n)
    if artbp.alpha is not None:  # survival falls as n^-(alpha - 1) from here
        mean += survival * last / (artbp.alpha - 2)
    assert mean == pytest.approx(artbp.mean_length, rel=1e-3)


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_draws_cuts_at_the_mean_length(alpha):
    artbp = ARTBP(mean_length=8, alpha=alpha)
    keep = artbp.keep(torch.rand(200_000, generator=torch.Generator().manual_seed(0)).tolist())
    assert len(keep) == 200_001
    assert len(keep) / keep.count(0) == pytest.approx(8, rel=0.03)


def test_factors_by_hand():
    keep = ARTBP(mean_length=4).keep([0.25, 0.24, 1.0])
    assert keep == [1.0, 4 / 3, 0.0, 4 / 3]
    # alpha 3, L0 3: p(l) = 2 / (3 + l)
    keep = ARTBP(mean_length=3, alpha=3.0).keep([1.0, 1.0, 0.0, 1.0])
    assert keep == pytest.approx([1, 1 / (1 - 2 / 4), 1 / (1 - 2 / 5), 0, 1 / (1 - 2 / 4)])


def test_mean_over_draws_comes_near_full():
    """At H = 16, within a few standard errors."""
    net = Net(16, 12)
    strategy = ARTBP(mean_length=6)
    draws = [gradients(strategy, net, draw=draw)["weight_hh_l0"] for draw in range(200)]
    draws = torch.stack(draws)
    error = draws.mean(0) - gradients(Full(), net)["weight_hh_l0"]
    standard_error = draws.std(0) / 200**0.5
    assert error.square().sum() < 2 * standard_error.square().sum()


def test_same_draw_same_gradient_other_draw_another():
    net = Net(4, 30, num_layers=2)
    strategy = ARTBP(mean_length=5, seed=3)
    first, second = (gradients(strategy, net, draw=draw) for draw in (0, 1))
    assert_identical(gradients(ARTBP(mean_length=5, seed=3), net, draw=1), second, "same draw")
    assert not torch.equal(first["weight_hh_l0"], second["weight_hh_l0"])
    elsewhere = gradients(ARTBP(mean_length=5, seed=4), net)
    assert not torch.equal(elsewhere["weight_hh_l0"], first["weight_hh_l0"])


def test_a_kept_graph_keeps_its_cuts():
    net = Net(4, 20)
    strategy = ARTBP(mean_length=4)
    rnn, (input, hx) = net.rnn(strategy), net.data()
    loss = net.loss_of(rnn(input, hx)[0])
    loss.backward(retain_graph=True)
    once = rnn.weight_hh_l0.grad.clone()
    rnn(input, hx)  # another draw in between
    loss.backward()
    assert torch.equal(rnn.weight_hh_l0.grad, 2 * once)


def test_one_step_has_nothing_to_cut():
    net = Net(3, 1)
    assert_same(gradients(ARTBP(), net), gradients(Full(), net), "one step", 1e-14)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"mean_length": 1}, "mean_length=1: must be greater than 1"),
        ({"alpha": 2}, "alpha=2: must be greater than 2"),
        ({"mean_length": float("inf")}, "mean_length=inf: must be a finite number"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        ARTBP(**settings)
