import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.adding import Adding, adding
from tasks.predictors import agree, measure


@pytest.mark.parametrize("num_steps", [2, 3, 20, 31])
def test_target_is_the_sum_of_one_number_in_each_half(num_steps):
    input, sums = adding(num_steps, 500, torch.Generator().manual_seed(3))
    values, markers = input.unbind(-1)
    assert input.shape == (num_steps, 500, 2)
    assert ((values >= 0) & (values < 1)).all()
    assert ((markers == 0) | (markers == 1)).all()
    half = num_steps // 2
    assert (markers[:half].sum(0) == 1).all()
    assert (markers[half:].sum(0) == 1).all()
    torch.testing.assert_close((values * markers).sum(0), sums)


def test_every_step_of_each_half_is_marked_as_often():
    input, _ = adding(5, 20000, torch.Generator().manual_seed(3))
    shares = input[..., 1].mean(1)
    expected = torch.tensor([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    assert (shares - expected).abs().max() < 0.015


def test_only_the_last_step_counts():
    _, target, mask = Adding(num_steps=6, val_size=4).sequences("val", 0)
    assert mask[-1].all()
    assert not mask[:-1].any()
    assert target.shape == (6, 4, 1)


def test_draws_depend_on_seed_split_and_epoch_alone():
    task = Adding(train_size=8, val_size=8, test_size=8)
    drawn = {
        "train 0": task.sequences("train", 0).input,
        "train 1": task.sequences("train", 1).input,
        "val": task.sequences("val", 0).input,
        "test": task.sequences("test", 0).input,
        "seed 1": Adding(train_size=8, seed=1).sequences("train", 0).input,
    }
    names = list(drawn)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            assert not torch.equal(drawn[name], drawn[other]), (name, other)


def test_chance_is_what_always_naming_one_reaches():
    task = Adding(test_size=40000, num_steps=4)
    measured = measure(task, torch.ones(4, 40000, 1))
    agree(measured, task.references()["chance"], 40000)
    # ... and tightly enough to tell |error| < 0.04 from other tolerances.
    assert measured["accuracy"] == pytest.approx(0.0784, abs=0.005)
    assert measured["loss"] == pytest.approx(1 / 6, abs=0.004)


def test_accuracy_has_a_tolerance_of_four_hundredths():
    errors = torch.tensor([0.0, 0.039, -0.039, 0.041, -0.041])[:, None, None]
    got = Adding().score(1 + errors, torch.ones(5, 1, 1))["accuracy"]
    assert got[:, 0].tolist() == [1, 1, 1, 0, 0]


def test_refuses_one_step():
    with pytest.raises(ConfigError, match="num_steps=1: must be at least 2"):
        Adding(num_steps=1)
