import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.copy_memory import BLANK, GO, CopyMemory, copy_memory
from tasks.predictors import agree, logits, measure


@pytest.mark.parametrize("delay", [1, 2, 30])
def test_layout(delay):
    input, target = copy_memory(delay, 300, torch.Generator().manual_seed(0))
    assert input.shape == target.shape == (delay + 20, 300)
    symbols = input[:10]
    assert set(symbols.unique().tolist()) == set(range(8))
    assert (input[10 : 10 + delay - 1] == BLANK).all()
    assert (input[10 + delay - 1] == GO).all()
    assert (input[10 + delay :] == BLANK).all()
    assert (target[: 10 + delay] == BLANK).all()
    assert torch.equal(target[10 + delay :], symbols)


def test_symbols_are_uniform():
    input, _ = copy_memory(1, 5000, torch.Generator().manual_seed(0))
    shares = torch.bincount(input[:10].flatten(), minlength=8) / 50000
    assert (shares - 1 / 8).abs().max() < 0.007


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_mse"])
@pytest.mark.parametrize("delay", [1, 20])
def test_chance_is_blank_and_then_anything(delay, loss):
    task = CopyMemory(delay=delay, test_size=3000, loss=loss)
    chances = torch.zeros(task.num_steps, 3000, 10)
    chances[: 10 + delay, :, BLANK] = 1
    chances[10 + delay :, :, :8] = 1 / 8
    claimed = task.references()["chance"]
    measured = measure(task, logits(chances))
    agree(measured, claimed, 30000)
    assert measured["loss"] == pytest.approx(claimed["loss"], rel=1e-6)  # no luck in it


def test_recall_is_the_accuracy_on_the_symbols():
    task = CopyMemory(delay=3, test_size=50)
    _, target, _ = task.sequences("test", 0)
    prediction = torch.nn.functional.one_hot(target, 10).float()
    assert measure(task, prediction) == pytest.approx(
        {"loss": measure(task, prediction)["loss"], "accuracy": 1, "recall": 1}
    )
    prediction[-4:] = torch.nn.functional.one_hot(torch.tensor(BLANK), 10).float()
    assert measure(task, prediction)["recall"] == pytest.approx(0.6)
    assert measure(task, prediction)["accuracy"] == pytest.approx(19 / 23)


def test_every_epoch_and_split_has_its_own():
    task = CopyMemory(train_size=20, val_size=20, test_size=20)
    drawn = [task.sequences(*which).input for which in (("train", 0), ("train", 1), ("val", 0))]
    drawn += [
        task.sequences("test", 0).input,
        CopyMemory(train_size=20, seed=1).sequences("train", 0)[0],
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[i + 1 :])


def test_refuses_no_delay():
    with pytest.raises(ConfigError, match="delay=0: must be at least 1"):
        CopyMemory(delay=0)
