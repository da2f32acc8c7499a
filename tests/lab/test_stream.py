"""A stream answers step by step what predict answers of whole sequences, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from gradients.test_contract import STRATEGIES
from instruction_sets import running_on

from bptt_lab.core.kernels import core
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients.base import GradientStrategy
from lab.nets import Kind, make

KINDS = [
    Kind(),
    Kind(nonlinearity="relu", num_layers=2, leak=0.3, hidden_size=33),
    Kind(nonlinearity="sigmoid", bias=False, embedding_size=7, dtype=torch.float64),
    Kind(nonlinearity="identity", hidden_size=16, num_layers=3, dropout=0.5, output_size=1),
    Kind(input_size=30, hidden_size=450, output_size=30, loss="cross_entropy"),  # more than L2
    Kind(dtype=torch.float64, leak=0.9, loss="binary_cross_entropy"),
]


@pytest.fixture(params=["avx512", "avx2", "generic", "torch"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "torch":
        monkeypatch.setattr(core, "available", lambda: False)
        yield
    elif not core.available():
        pytest.skip("the C core was not built")
    else:
        with running_on(request.param):
            yield


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("kernel", "threads")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_step_by_step_as_at_once(kind: Kind) -> None:
    net, draws = make(kind), np.random.default_rng(0)
    sequences = [draws.normal(size=(length, kind.input_size)) for length in (5, 1, 9, 9, 2, 7)]
    several = net.predict(sequences)
    for sequence, at_once in zip(sequences, several, strict=True):
        assert np.array_equal(net.predict(sequence), at_once)
        stream = net.stream()
        assert np.array_equal([stream.predict_one(x) for x in sequence], at_once)
    if not net.codec.gives_numbers:
        stream = net.stream()
        chances = net.predict_proba(sequences)[2]
        assert np.array_equal([stream.predict_proba_one(x) for x in sequences[2]], chances)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_as_training_to_rounding(kind: Kind) -> None:
    net = make(kind)
    input = torch.randn(8, 5, kind.input_size, generator=torch.Generator().manual_seed(0))
    outputs = net.advance(input, net.zeros(5))[0]
    assert outputs.dtype == kind.dtype
    torch.testing.assert_close(net(input), outputs)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_whatever_strategy_trained_it(strategy: GradientStrategy) -> None:
    net, plain = make(Kind(), strategy), make(Kind())
    x = np.random.default_rng(0).normal(size=(6, 3))
    stream = net.stream()
    assert np.array_equal([stream.predict_one(step) for step in x], net.predict(x))
    assert np.array_equal(net.predict(x), plain.predict(x))


def test_a_stream_is_reset_copied_and_put_back() -> None:
    net, x = make(Kind()), np.random.default_rng(0).normal(size=(6, 3))
    whole = net.predict(x)
    stream = net.stream()
    stream.predict_one(x[0])
    saved, other, third = stream.state_dict(), stream.copy(), copy.copy(stream)
    for again in (stream, other, third):
        assert np.array_equal([again.predict_one(step) for step in x[1:]], whole[1:])
    stream.load_state_dict(saved)
    assert np.array_equal(stream.predict_one(x[1]), whole[1])
    stream.reset()
    assert np.array_equal(stream.predict_one(x[0]), whole[0])
    with pytest.raises(ConfigError, match="hx: must be"):
        stream.load_state_dict({"hx": torch.zeros(1, 1, 4)})
    with pytest.raises(ConfigError, match="reshape"):
        stream.predict_one([1.0])
    assert np.array_equal(stream.predict_one(x[1]), whole[1])  # as if it had not been asked
