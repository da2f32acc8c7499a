"""Each law against its definition, and lanes against the series that they are cut from."""

from itertools import islice

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from bptt_lab.core.random import generator
from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.chaos import SERIES, SETTLED, Chaos
from tasks.predictors import measure

SPLITS = ("train", "val", "test")
SMALL = {"stream_length": 60, "eval_length": 20, "reset_every": 10, "batch_size": 3}


def first(series: str, count: int, start: float = 0.3, skip: int = 0) -> np.ndarray:
    return np.array([*islice(SERIES[series](start), skip, skip + count)])


def test_mackey_glass_is_eulers_method():
    x = [0.34] * 18
    for t in range(17, 400):
        slope = 0.2 * x[t - 17] / (1 + x[t - 17] ** 10) - 0.1 * x[t]
        x.append(x[t] + 1.0 * slope)
    np.testing.assert_allclose(first("mackey_glass", 300), x[17:317], rtol=0, atol=1e-10)


def test_maps_follow_their_laws():
    x = first("henon", 1000)
    np.testing.assert_allclose(x[2:], 1 - 1.4 * x[1:-1] ** 2 + 0.3 * x[:-2], rtol=0, atol=1e-12)
    x = first("logistic", 1000)
    np.testing.assert_allclose(x[1:], 3.9 * x[:-1] * (1 - x[:-1]), rtol=0, atol=1e-12)


def slope(_, s):
    return np.array([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])


def test_lorenz_is_runge_kutta_of_order_4_every_second_step():
    state, dt, seen = np.array([1.3, 0.7, 20.0]), 0.025, []
    for step in range(400):
        if step % 2 == 0:
            seen.append(state[0])
        k1 = slope(0, state)
        k2 = slope(0, state + dt / 2 * k1)
        k3 = slope(0, state + dt / 2 * k2)
        k4 = slope(0, state + dt * k3)
        state = state + dt * (k1 + 2 * k2 + 2 * k3 + k4) / 6
    np.testing.assert_allclose(first("lorenz", 200), seen, rtol=0, atol=1e-8)
    times = 0.05 * np.arange(20)
    exact = solve_ivp(slope, (0, 1), [1.3, 0.7, 20.0], t_eval=times, rtol=1e-10, atol=1e-10).y[0]
    assert np.abs(first("lorenz", 20) - exact).max() < 0.05


@pytest.mark.parametrize("series", SERIES)
def test_no_lane_collapses_in_100000_steps(series):
    count = 100_000 if series != "lorenz" else 5000
    for start in (0.0, 0.5, 0.999) if series != "lorenz" else (0.5,):
        tail = first(series, count // 10, start, skip=count - count // 10)
        assert len(np.unique(tail)) > 0.99 * len(tail)  # neither a fixed point nor a short cycle
        assert np.isfinite(tail).all() and tail.std() > 0.1


def test_the_logistic_map_of_4_would_collapse():
    x = 0.5 + 1e-9
    for _ in range(3):
        x = 4 * x * (1 - x)
    assert x == 0


@pytest.mark.parametrize("series", SERIES)
def test_lanes_are_far_apart_and_chaotic(series):
    lanes = Chaos(series=series, **SMALL).lanes
    apart = [(lanes[:, a] - lanes[:, b]).abs().mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 0.2
    one, other = (first(series, 3000, start, skip=SETTLED) for start in (0.4, 0.4 + 1e-6))
    assert np.abs(one - other).max() > 0.1


def test_a_lane_goes_on_across_windows_and_splits():
    task = Chaos(**SMALL)
    inputs, targets = [], []
    for split in SPLITS:
        input, target, mask = task.sequences(split, 0)
        assert mask.all() and len(mask) == 10 and mask.shape[1] == (18 if split == "train" else 6)
        inputs += [window[..., 0] for window in input.split(3, 1)]
        targets += [window[..., 0] for window in target.split(3, 1)]
    for target, following in zip(targets, inputs[1:], strict=False):
        assert torch.equal(target[-1], following[0])
    assert torch.equal(torch.cat(inputs), task.lanes[:-1].float())
    assert torch.equal(torch.cat(targets), task.lanes[1:].float())


@pytest.mark.parametrize(("reset_every", "chunk_length"), [(10, 1), (7, 3), (None, 4), (99, None)])
def test_a_batch_is_a_chunk_of_all_lanes_and_begins_anew_at_a_reset(reset_every, chunk_length):
    task = Chaos(**{**SMALL, "reset_every": reset_every, "chunk_length": chunk_length})
    batches = list(task.train_dataloader())
    steps = [step for batch in batches for step in batch.input[..., 0]]
    assert torch.equal(torch.stack(steps), task.lanes[:60].float())  # all of it, in order
    assert all(batch.mask.all() for batch in batches)
    begins = np.cumsum([0, *(len(batch.input) for batch in batches)])[:-1]
    wanted = begins % min(reset_every or 60, 60) == 0
    assert [batch.is_first for batch in batches] == wanted.tolist()


def test_standardised_by_the_training_part_of_all_lanes():
    task = Chaos(**SMALL)
    train = task.lanes[:61]
    assert train.mean().item() == pytest.approx(0, abs=1e-12)
    assert train.var(correction=0).item() == pytest.approx(1)
    assert task.lanes.mean().item() != pytest.approx(0, abs=1e-9)
    codec = task.codec()
    raw = torch.tensor(first("mackey_glass", 81 + 20, first_start(task), skip=SETTLED))
    lane = task.lanes[:, 0] * codec.output_std[0] + codec.output_mean[0]
    torch.testing.assert_close(lane, raw, rtol=0, atol=1e-12)
    assert (codec.input_mean, codec.input_std) == (codec.output_mean, codec.output_std)


def first_start(task: Chaos) -> float:
    return torch.rand(1, generator=generator(task.seed, f"chaos/{task.series}")).item()


def test_references_are_what_they_reach():
    task = Chaos(**{**SMALL, "stream_length": 400})
    references = task.references()
    assert list(references) == ["ar", "persistence", "mean"]  # the best first
    input, target, _ = task.sequences("test", 0)
    assert measure(task, input) == pytest.approx(references["persistence"], rel=1e-5)
    assert measure(task, torch.zeros_like(target)) == pytest.approx(references["mean"], rel=1e-5)
    one = task.lanes[:401].diff(dim=0).square().mean().item()
    assert references["mean"]["relative_error"] == pytest.approx(references["mean"]["loss"] / one)
    lanes, rows = task.lanes.numpy(), range(16, 401)
    design = np.array([[1, *lane[t - 16 : t]] for lane in lanes.T for t in rows])
    wanted = np.array([lane[t] for lane in lanes.T for t in rows])
    fitted = np.linalg.pinv(design) @ wanted
    errors = [
        (np.concatenate(([1], lane[t - 16 : t])) @ fitted - lane[t]) ** 2
        for lane in lanes.T
        for t in range(421, 441)
    ]
    assert references["ar"]["loss"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert "ar" not in Chaos(**{**SMALL, "stream_length": 16}).references()


def test_the_seed_and_the_series_choose_the_lanes():
    kinds = [{}, {"seed": 1}, {"series": "henon"}]
    found = [Chaos(**SMALL, **kind).lanes for kind in kinds]
    assert torch.equal(found[0], Chaos(**SMALL).lanes)
    assert not torch.allclose(found[0], found[1], atol=0.1)
    assert not torch.allclose(found[0], found[2], atol=0.1)
    more = Chaos(**{**SMALL, "batch_size": 5}).lanes * 1.0
    apart = (more[:, :3] - found[0]) - (more[:, :3] - found[0]).mean()
    assert apart.abs().max() < 0.5  # the same three lanes, standardised with others


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"series": "rossler"}, "series=rossler: must be one of mackey_glass, henon"),
        ({"stream_length": 0}, "stream_length=0: must be at least 1"),
        ({"eval_length": 0}, "eval_length=0: must be at least 1"),
        ({"reset_every": 0}, "reset_every=0: must be"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
    ],
)
def test_refuses(setting, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Chaos(**setting)
