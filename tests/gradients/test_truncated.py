"""Truncation in every mode, drawn at random, against the masked oracle and the masks' table."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.full import Full
from bptt_lab.gradients.truncated import Truncated

from .contract import assert_same, check_credit, check_gradient
from .nets import Net, gradients

MODES = ("chunk", "lag", "window", "tail")


def kept(mode: str, k: int, k1: int, T: int, t: int, s: int) -> bool:
    """M[t, s] as the table defines it, t and s counted from 1."""
    if s > t:
        return False
    if mode == "chunk":
        return math.floor((t - 1) / k) == math.floor((s - 1) / k)
    if mode == "lag":
        return t - s < k
    if mode == "window":
        return s > min(T, math.ceil(t / k1) * k1) - k
    return s > T - k


@st.composite
def truncations(draw: st.DrawFn, most: int) -> tuple[Truncated, int]:
    k = draw(st.integers(1, most))
    mode = draw(st.sampled_from(MODES))
    k1 = draw(st.integers(1, k)) if mode == "window" else None
    return Truncated(k=k, mode=mode, k1=k1), draw(st.integers(1, most))


@given(truncations(40))
@settings(max_examples=300)
def test_mask_is_the_one_in_the_table(drawn):
    strategy, T = drawn
    steps = range(1, T + 1)
    expected = [
        [kept(strategy.mode, strategy.k, strategy.k1, T, t, s) for s in steps] for t in steps
    ]
    assert strategy.mask(T).tolist() == expected


ON_ANY_NET = given(
    truncations(9),
    st.sampled_from(["tanh", "relu", "identity", "sigmoid"]),
    st.integers(1, 3),
    st.sampled_from([1.0, 0.5, 0.3]),
    st.sampled_from(["sum", "last"]),
)


@settings(max_examples=50)
@ON_ANY_NET
def test_gradient_and_credit_are_the_masked_ones(drawn, nonlinearity, num_layers, leak, loss):
    gradient_and_credit_are_the_masked_ones(drawn, nonlinearity, num_layers, leak, loss)


@pytest.mark.slow
@settings(max_examples=1000)
@ON_ANY_NET
def test_so_they_are_in_many_cases(drawn, nonlinearity, num_layers, leak, loss):
    gradient_and_credit_are_the_masked_ones(drawn, nonlinearity, num_layers, leak, loss)


def gradient_and_credit_are_the_masked_ones(drawn, nonlinearity, num_layers, leak, loss):
    strategy, num_steps = drawn
    net = Net(3, num_steps, 2, num_layers, nonlinearity, leak, loss)
    check_gradient(strategy, net)
    check_credit(strategy, net)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
class TestModesMeet:
    @staticmethod
    def assert_agree(one, other, dropout):
        net = Net(5, 12, num_layers=2, leak=0.5)
        actual, expected = (gradients(strategy, net, dropout=dropout) for strategy in (one, other))
        assert_same(actual, expected, f"{one} and {other}")

    @pytest.mark.parametrize("k", [1, 2, 5, 12])
    def test_window_with_a_sweep_every_step_is_lag(self, dropout, k):
        window, lag = Truncated(k=k, mode="window", k1=1), Truncated(k=k, mode="lag")
        self.assert_agree(window, lag, dropout)

    @pytest.mark.parametrize("k", [1, 2, 3, 4, 6, 12])
    def test_window_with_a_sweep_every_k_steps_is_chunk(self, dropout, k):
        window, chunk = Truncated(k=k, mode="window", k1=k), Truncated(k=k)
        self.assert_agree(window, chunk, dropout)

    @pytest.mark.parametrize("k", [12, 13, 100])
    @pytest.mark.parametrize("mode", MODES)
    def test_k_as_long_as_the_sequence_is_full(self, dropout, mode, k):
        self.assert_agree(Truncated(k=k, mode=mode), Full(), dropout)


def test_k_counts_the_losss_own_step():
    """k = 1 is no recurrence: a state's past is a constant."""
    net = Net(4, 6)
    rnn, (input, hx) = net.rnn(), net.data()
    h_tm1 = torch.cat([hx, rnn(input, hx)[0]]).detach()[:-1]
    once = rnn(input.reshape(1, -1, input.shape[-1]), h_tm1.reshape(1, -1, net.hidden_size))[0]
    net.loss_of(once).backward()
    expected = {name: p.grad for name, p in rnn.named_parameters()}
    for strategy in (Truncated(k=1), Truncated(k=1, mode="lag")):
        actual = gradients(strategy, net)
        assert_same({name: actual[name] for name in expected}, expected, "k = 1")


@pytest.mark.parametrize("k, k1", [(1, 1), (2, 1), (5, 3), (6, 3), (7, 4)])
def test_k1_is_half_of_k_rounded_up_by_default(k, k1):
    assert Truncated(k=k, mode="window").k1 == k1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"k": 0}, "k=0: must be at least 1"),
        ({"k": 2.0}, "k=2.0: must be an integer"),
        ({"k": True}, "k=True: must be an integer"),
        ({"mode": "lags"}, "mode=lags: must be one of chunk, lag, window, tail; did you mean lag?"),
        ({"k": 3, "mode": "window", "k1": 0}, "k1=0: must be at least 1"),
        ({"k": 3, "mode": "window", "k1": 4}, "k1=4: must be at most k=3"),
        (
            {"k": 3, "mode": "lag", "k1": 1},
            "k1=1: only means something with mode=window; leave it null",
        ),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ConfigError) as refusal:
        Truncated(**settings)
    assert str(refusal.value) == message


def test_takes_keywords_only():
    with pytest.raises(TypeError):
        Truncated(4)


def test_repr_shows_the_settings_that_matter():
    assert repr(Truncated(k=4)) == "Truncated(k=4, mode='chunk')"
    assert repr(Truncated(k=4, mode="window")) == "Truncated(k=4, mode='window', k1=2)"
