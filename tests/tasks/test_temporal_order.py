import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.temporal_order import TemporalOrder, temporal_order
from tasks.predictors import agree, logits, measure


@pytest.mark.parametrize("num_steps", [10, 37, 50])
def test_two_relevant_symbols_in_their_ranges_decide_the_class(num_steps):
    symbols, classes = temporal_order(num_steps, 2000, torch.Generator().manual_seed(0))
    relevant = symbols < 2
    assert (relevant.sum(0) == 2).all()
    for m in range(2000):
        t1, t2 = relevant[:, m].nonzero().flatten().tolist()
        assert num_steps // 10 <= t1 <= 0.2 * num_steps
        assert num_steps // 2 <= t2 <= 0.6 * num_steps
        assert classes[m] == 2 * symbols[t1, m] + symbols[t2, m]
    assert relevant[num_steps // 10].any()  # both ends of both ranges are reached
    assert relevant[num_steps // 5].any()
    assert relevant[num_steps // 2].any()
    assert relevant[3 * num_steps // 5].any()
    assert set(symbols[~relevant].unique().tolist()) == {2, 3, 4, 5}


def test_classes_are_as_likely():
    _, classes = temporal_order(10, 40000, torch.Generator().manual_seed(0))
    assert (torch.bincount(classes, minlength=4) / 40000 - 0.25).abs().max() < 0.01


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_mse"])
def test_chance_is_guessing(loss):
    task = TemporalOrder(num_steps=10, test_size=10000, loss=loss)
    claimed = task.references()["chance"]
    measured = measure(task, logits(torch.full((10, 10000, 4), 0.25)))
    agree(measured, claimed, 10000)
    assert measured["loss"] == pytest.approx(claimed["loss"], rel=1e-6)


def test_only_the_last_step_counts_and_every_epoch_is_new():
    task = TemporalOrder(train_size=30)
    first, second = task.sequences("train", 0), task.sequences("train", 1)
    assert first.mask[-1].all()
    assert not first.mask[:-1].any()
    assert not torch.equal(first.input, second.input)
    assert not torch.equal(
        first.input, TemporalOrder(train_size=30, seed=1).sequences("train", 0)[0]
    )


def test_refuses_too_few_steps():
    with pytest.raises(ConfigError, match="num_steps=9: must be at least 10"):
        TemporalOrder(num_steps=9)
