"""Lanes of a column: which values each reads, and in which order."""

import math

import pytest
import torch

from bptt_lab.core.validation import ConfigError
from bptt_lab.tasks.series import Series
from tasks.damage import refused

SHORT = {"num_steps": 6, "order": 2}


def column(folder, length=130):
    file = folder / "series.csv"
    file.write_text("x\n" + "".join(f"{math.sin(t) + t / 99!r}\n" for t in range(length)))
    return file


@pytest.mark.parametrize(("reset_every", "horizon"), [(None, 1), (4, 1), (13, 2), (5, 3)])
def test_lanes_are_stretches_of_training_in_order(tmp_path, reset_every, horizon):
    how = {"lanes": 8, "reset_every": reset_every, "chunk_length": 1, "horizon": horizon}
    task = Series(path=str(column(tmp_path)), **SHORT, **how, batch_size=3)
    batches = list(task.train_dataloader())
    values = task.inputs[:, 0].float().tolist()
    length = (104 - horizon) // 8  # of 130 values 104 are for training
    assert len(batches) == length
    for step, batch in enumerate(batches):
        assert batch.mask.all()
        read = [values[lane * length + step] for lane in range(8)]
        asked = [values[lane * length + step + horizon] for lane in range(8)]
        assert batch.input[0, :, 0].tolist() == read
        assert batch.target[0, :, 0].tolist() == asked
        assert batch.is_first == (step % (reset_every or length) == 0)


def test_validation_and_test_are_as_they_are_without(tmp_path):
    file = str(column(tmp_path))
    plain, laned = Series(path=file, **SHORT), Series(path=file, **SHORT, lanes=4, reset_every=3)
    for split in ("val", "test"):
        assert all(map(torch.equal, plain.sequences(split, 0), laned.sequences(split, 0)))
    assert plain.references() == laned.references()
    assert not plain.stream and laned.stream
    assert laned.batch_size == 4
    orders = [next(iter(task.train_dataloader())).input for task in (plain, laned)]
    assert torch.equal(orders[1][:, 0, 0], laned.inputs[:3, 0].float())
    assert not torch.equal(orders[0][:3, 0], orders[1][:, 0])  # sequences are shuffled


def test_every_column_and_target_has_its_place(tmp_path):
    file = tmp_path / "two.csv"
    file.write_text("a,b\n" + "".join(f"{t},{math.cos(t)!r}\n" for t in range(60)))
    task = Series(path=str(file), columns=["a", "b"], targets=["b"], lanes=5, **SHORT)
    input, target, _ = task.sequences("train", 0)
    assert input.shape == (9, 5, 2)
    assert torch.equal(target[:-1], input[1:, :, 1:])


def test_refuses_too_short_a_column_and_a_reset_without_lanes(tmp_path):
    file = column(tmp_path, 20)
    Series(path=str(file), **SHORT, lanes=15)
    complaint = "must hold at least 17 values for training with lanes=16, but holds 16 of 20"
    refused(lambda: Series(path=str(file), **SHORT, lanes=16), file, complaint)
    with pytest.raises(ConfigError, match="reset_every=5: only means something with lanes"):
        Series(path=str(file), **SHORT, reset_every=5)
