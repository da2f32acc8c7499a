import pytest
import torch

from bptt_lab.tasks.digits import Digits, read_digits
from tasks.predictors import logits, measure


@pytest.mark.parametrize(("layout", "shape"), [("pixels", (64, 1)), ("rows", (8, 8))])
def test_splits_are_disjoint_and_lose_no_image(layout, shape):
    task = Digits(layout=layout)
    parts = [task.sequences(split, 0) for split in ("train", "val", "test")]
    assert [part.input.shape[1] for part in parts] == [1297, 200, 300]
    assert parts[0].input.shape[::2] == shape
    images, digits = read_digits(layout)
    want = torch.cat((images.transpose(0, 1).flatten(1), digits[:, None]), 1)
    rows = [
        torch.cat((part.input.transpose(0, 1).flatten(1), part.target[-1, :, None]), 1)
        for part in parts
    ]
    assert sorted(torch.cat(rows).tolist()) == sorted(want.tolist())


@pytest.mark.parametrize("loss", ["cross_entropy", "softmax_mse"])
def test_chance(loss):
    task = Digits(layout="rows", loss=loss)
    measured = measure(task, logits(torch.full((8, 300, 10), 0.1)))
    claimed = task.references()["chance"]
    assert measured["loss"] == pytest.approx(claimed["loss"], rel=1e-6)
    assert measured["accuracy"] == pytest.approx(claimed["accuracy"], abs=0.05)
