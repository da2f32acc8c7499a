"""A learner has the gradient that its strategy claims, and goes on from what it saved."""

from __future__ import annotations

import gc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gradients.test_contract import STRATEGIES
from torch import Tensor

from bptt_lab import lab
from bptt_lab.core.validation import ConfigError
from bptt_lab.gradients import RTRL, UORO, Full, SnAp1, Truncated
from bptt_lab.gradients.base import GradientStrategy
from bptt_lab.lab import Codec, Learner, Net, Network
from bptt_lab.nn.losses import LOSSES
from bptt_lab.nn.rnn import VanillaRNN
from bptt_lab.runs.outcome import Diverged
from lab.nets import Kind, make

SGD = partial(torch.optim.SGD, lr=0.05)
ADAM = partial(torch.optim.Adam, lr=0.01)
STEPS = 40


def data(steps: int = STEPS, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """A stream; some steps have no answer."""
    draws = np.random.default_rng(seed)
    x, y = draws.normal(size=(steps, 3)), draws.normal(size=(steps, 2))
    return [(x[t], None if t % 5 == 3 else y[t]) for t in range(steps)]


def learner(net: Net, gradient: GradientStrategy, optimizer: object = None) -> Learner:
    with warnings.catch_warnings(action="ignore"):  # of those that cut after a step
        return net.learner(gradient=gradient, optimizer=optimizer)  # type: ignore[arg-type]


def learnt(net: Net, gradient: GradientStrategy) -> dict[str, Tensor]:
    """The gradients of a stream, added up at fixed weights."""
    one = learner(net, gradient)
    for x, y in data():
        one.learn_one(x, y)
    return {name: p.grad for name, p in one.net.named_parameters() if p.grad is not None}


def in_chunks(net: Net, gradient: GradientStrategy, chunk_length: int) -> dict[str, Tensor]:
    """The same by the strategy's own unroll over chunks."""
    net.zero_grad()
    net.rnn.gradient, carry = gradient, None
    steps = data()
    for begin in range(0, STEPS, chunk_length):
        part = steps[begin : begin + chunk_length]
        input = torch.stack([net.codec.encode([x])[0] for x, _ in part])[:, None]
        output, carry = net.rnn.unroll(input.to(net.readout.weight.dtype), carry)
        prediction = net.readout(output)[:, 0]
        for t, (_, y) in enumerate(part):
            if y is not None:
                target = net.codec.target(y).to(prediction.dtype)
                LOSSES["mse"](prediction[t], target).backward(retain_graph=True)
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor], limit: float = 1e-10) -> None:
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        scale = other[name].abs().max().clamp(min=1)
        assert (gradient - other[name]).abs().max() <= limit * scale, name


@pytest.mark.parametrize("leak", [1.0, 0.4])
@pytest.mark.parametrize("gradient", [RTRL(), RTRL(store=True), RTRL(block=3)], ids=repr)
def test_rtrl_adds_up_to_full_bptt(gradient: GradientStrategy, leak: float) -> None:
    net = make(Kind(dtype=torch.float64, leak=leak))
    assert_near(learnt(net, gradient), in_chunks(net, Full(), STEPS))


def test_cut_after_a_step_it_does_not() -> None:
    net = make(Kind(dtype=torch.float64))
    assert_near(learnt(net, Full()), in_chunks(net, Truncated(k=1), STEPS))
    with pytest.raises(AssertionError):
        assert_near(learnt(net, Full()), in_chunks(net, Full(), STEPS))


@pytest.mark.parametrize("gradient", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_every_rule_does_what_it_does_in_chunks_of_a_step(gradient: GradientStrategy) -> None:
    net = make(Kind(dtype=torch.float64))
    assert_near(learnt(net, gradient), in_chunks(net, gradient, 1))


@pytest.mark.filterwarnings("error")
def test_a_rule_that_carries_no_influence_is_warned_of() -> None:
    net = make(Kind())
    net.learner(gradient=SnAp1(), optimizer=None)
    with pytest.warns(UserWarning, match="cuts credit after a step"):
        net.learner(gradient=Full(), optimizer=None)


def test_it_learns_and_leaves_the_network_alone() -> None:
    net = make(Kind())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    one = learner(net, RTRL(), SGD)
    losses = []
    for _ in range(60):
        x, y = np.ones(3), np.array([0.3, -0.2])
        guess = one.predict_one(x)
        assert np.array_equal(guess, one.predict_one(x))  # it looks, and does not step
        losses.append(float(np.square(guess - y).mean()))
        one.learn_one(x, y)
    assert losses[-1] < losses[0] / 100
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


def test_it_begins_as_a_stream_does() -> None:
    net, x = make(Kind()), [x for x, _ in data(9)]
    one, stream = learner(net, RTRL()), net.stream()
    for step in x:
        np.testing.assert_allclose(one.predict_one(step), stream.predict_one(step), rtol=1e-5)
        one.learn_one(step)


def test_classes_by_name_and_numbers_in_their_own_units() -> None:
    codec = lab.Codec(2, 3, "cross_entropy", ("a", "b"), classes=("x", "y", "z"))
    assert codec.target("z").item() == 2
    with pytest.raises(ConfigError, match="y='w': must be one of the 3 classes, 'x', 'y', 'z'"):
        codec.target("w")
    series = lab.Codec(1, 1, "mse", output_mean=(10.0,), output_std=(2.0,))
    assert series.target(12).tolist() == [1.0]
    parts = make(Kind(input_size=2, output_size=3, loss="cross_entropy"))
    net = Net(lab.Network(parts.rnn, parts.readout, None, codec))
    one = learner(net, RTRL(), SGD)
    for _ in range(100):
        one.learn_one("a", "y")
        one.learn_one("b", "z")
    assert (one.predict_one("a"), one.net.stream().predict_one("a")) == ("y", "y")
    assert one.predict_proba_one("a").argmax() == 1


def test_a_wrong_answer_changes_nothing() -> None:
    one = learner(make(Kind()), RTRL(), SGD)
    one.learn_one(np.ones(3), np.ones(2))
    carry = one.carry
    for x, y in [(np.ones(2), np.ones(2)), (np.ones(3), np.ones(3)), (np.ones(3), ["a", "b"])]:
        with pytest.raises(ConfigError):
            one.learn_one(x, y)
    assert one.carry is carry


def test_an_embedding_that_a_rule_cannot_train_is_refused_unless_it_is_frozen() -> None:
    net = make(Kind(embedding_size=4))
    with pytest.raises(ConfigError, match=r"net\.embedding\.requires_grad_\(False\)"):
        learner(net, RTRL())
    learner(net, Full()).learn_one(np.ones(3), np.ones(2))
    net.embedding.requires_grad_(False)  # type: ignore[union-attr]
    learner(net, RTRL(), SGD).learn_one(np.ones(3), np.ones(2))


@pytest.mark.parametrize("gradient", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_saved_in_mid_stream_it_goes_on_with_the_same_bits(
    gradient: GradientStrategy, tmp_path: Path
) -> None:
    one = learner(make(Kind()), gradient, ADAM)
    steps = data(20)
    for x, y in steps[:11]:
        one.learn_one(x, y)
    one.save(tmp_path / "learner.pt")
    again = lab.load_learner(tmp_path / "learner.pt", optimizer=ADAM)
    assert repr(again.gradient) == repr(gradient)
    for x, y in steps[11:]:
        assert np.array_equal(one.predict_one(x), again.predict_one(x))
        for each in (one, again):
            each.learn_one(x, y)
    for name, tensor in one.net.state_dict().items():
        assert torch.equal(tensor, again.net.state_dict()[name]), name
    assert again.carry.draw == 20


def test_a_new_sequence_has_no_influence_and_new_draws() -> None:
    one = learner(make(Kind()), UORO(seed=1))
    one.learn_one(np.ones(3), np.ones(2))
    one.reset()
    assert one.carry.influence is None
    assert not one.carry.hx.any()
    assert one.carry.draw == 1


def test_steps_take_no_more_room_as_they_go() -> None:
    one = learner(make(Kind()), RTRL(), ADAM)

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(found, Tensor) for found in gc.get_objects())

    counts = []
    for number in range(3):
        for x, y in data(300, number):
            one.learn_one(x, y)
        counts.append(tensors())
    assert counts[1] == counts[2]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a million steps, perhaps beside other work
def test_a_million_steps_take_no_more_room() -> None:
    import resource

    one = learner(make(Kind()), SnAp1(), SGD)
    x, y, peaks = np.ones(3), np.ones(2), []
    for step in range(1_000_000):
        one.learn_one(x, y)
        if step % 100_000 == 99_999:
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[-1] - peaks[0] < 4096  # KiB


def test_a_learner_that_diverges_says_so_and_keeps_its_weights() -> None:
    net = Net(Network(VanillaRNN(1, 3), torch.nn.Linear(3, 1), None, Codec(1, 1, "mse")))
    learner = net.learner(gradient=RTRL(), optimizer=partial(torch.optim.SGD, lr=1e12))
    with pytest.raises(Diverged, match="the learner has diverged"):
        for _ in range(50):
            learner.learn_one(1.0, 1e6)
    assert all(bool(p.isfinite().all()) for p in learner.net.parameters())
