import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks import mackey_glass
from bptt_lab.tasks.mackey_glass import MackeyGlass
from tasks.predictors import measure

SMALL = {"train_size": 60, "val_size": 9, "test_size": 14}


def heun(num_samples: int, history: float, substeps: int) -> list[float]:
    """The equation step by step, from textbook formulas."""
    dt, delay = 1 / substeps, 17 * substeps
    x = [history] * (delay + 1)

    def slope(now: float, past: float) -> float:
        return 0.2 * past / (1 + past**10) - 0.1 * now

    for n in range(delay, delay + num_samples * substeps):
        here = slope(x[n], x[n - delay])
        there = slope(x[n] + dt * here, x[n + 1 - delay])
        x.append(x[n] + dt * (here + there) / 2)
    return x[delay::substeps][:num_samples]


@pytest.mark.parametrize("history", [0.5, 1.2])
def test_series_solves_the_equation(monkeypatch, history):
    monkeypatch.setattr(mackey_glass, "SETTLED", 0)
    series = mackey_glass.mackey_glass(150, history)
    assert series.dtype == torch.float64
    assert series.shape == (150,)
    twin = torch.tensor(heun(150, history, 100), dtype=torch.float64)
    assert (series - twin).abs().max() < 6e-5  # the trapezoidal rule: above 1e-4


def test_settling_is_thrown_away(monkeypatch):
    monkeypatch.setattr(mackey_glass, "SETTLED", 0)
    whole = mackey_glass.mackey_glass(60, 0.9)
    monkeypatch.setattr(mackey_glass, "SETTLED", 25)
    assert torch.equal(mackey_glass.mackey_glass(35, 0.9), whole[25:])


def test_series_is_chaotic_but_bounded():
    one, other = mackey_glass.mackey_glass(4000, 1.0), mackey_glass.mackey_glass(4000, 1.0 + 1e-9)
    assert 0.1 < one.min() < one.max() < 1.6
    assert (one - other).abs().max() > 0.1


def test_sequences_follow_one_another_in_time():
    task = MackeyGlass(num_steps=20, **SMALL)
    parts = [task.sequences(split, 0) for split in ("train", "val", "test")]
    inputs = torch.cat([part.input[..., 0].T.flatten() for part in parts])
    targets = torch.cat([part.target[..., 0].T.flatten() for part in parts])
    assert [part.mask.shape[1] for part in parts] == [60, 9, 14]
    assert torch.equal(inputs, task.series[:-1].float())
    assert torch.equal(targets, task.series[1:].float())
    assert not parts[0].mask[:17].any()
    assert parts[0].mask[17:].all()


def test_standardised_by_the_training_part():
    task = MackeyGlass(num_steps=20, **SMALL)
    train = task.series[: 60 * 20 + 1]
    assert train.mean().item() == pytest.approx(0, abs=1e-9)
    assert train.var(correction=0).item() == pytest.approx(1)
    assert task.series.mean().item() != pytest.approx(0, abs=1e-9)


def test_references_are_what_trivial_predictors_reach():
    task = MackeyGlass(num_steps=20, **SMALL)
    input, target, _ = task.sequences("test", 0)
    references = task.references()
    assert list(references) == ["persistence", "mean"]
    assert measure(task, input) == pytest.approx(references["persistence"], rel=1e-5)
    assert measure(task, torch.zeros_like(target)) == pytest.approx(references["mean"], rel=1e-5)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_test_split_is_like_the_training_split(seed):
    """A length in step with the series' period of about 50 would always look at one phase."""
    persistence = MackeyGlass(seed=seed).references()["persistence"]["relative_error"]
    assert persistence == pytest.approx(1, abs=0.03)


def test_seed_chooses_the_series():
    one, other = MackeyGlass(**SMALL), MackeyGlass(**SMALL, seed=1)
    assert not torch.allclose(one.series, other.series, atol=0.1)


def test_refuses_sequences_without_a_step_that_counts():
    with pytest.raises(ConfigError, match="num_steps=17: must be greater than 17"):
        MackeyGlass(num_steps=17)
