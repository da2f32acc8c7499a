"""Sequences of unequal lengths go with others about as long; nothing is lost, nothing repeated."""

import json
import random

import pytest
import torch
from runs import QUICK, config, job, quick_run, resumed

from bptt_lab.nn.losses import masked_sum
from bptt_lab.tasks.grouping import by_length, lengths_of, padded_share
from bptt_lab.tasks.music import Music
from bptt_lab.training.build import build
from bptt_lab.training.train import perform
from tasks.test_chunks import at


@pytest.fixture(scope="module")
def tunes(tmp_path_factory):
    """Of 2 to 8 moments, each by its number in binary, and one of 60."""
    draws = random.Random(3)
    lengths = [draws.randint(2, 8) for _ in range(40)] + [60]
    pieces = [
        [[21 + bit for bit in range(6) if number >> bit & 1]] * length
        for number, length in enumerate(lengths, start=1)
    ]
    file = tmp_path_factory.mktemp("tunes") / "tunes.json"
    file.write_text(json.dumps({"train": pieces, "valid": pieces, "test": pieces}))
    return str(file)


def numbers(batch) -> list[int]:
    bits = 2 ** torch.arange(6)
    return (batch.input[0, :, :6] * bits).sum(-1).long().tolist()


def in_epoch(task: Music, epoch: int) -> list:
    return list(at(task, epoch).train_dataloader())


def test_lengths_end_at_the_last_step_that_counts():
    mask = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 0]]).bool()
    assert lengths_of(mask).tolist() == [1, 1, 3, 2]


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@pytest.mark.parametrize("chunk_length", [None, 1, 3, 100])
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_step_is_there_once(tunes, batch_size, chunk_length, split):
    task = Music(path=tunes, batch_size=batch_size, chunk_length=chunk_length)
    loader = getattr(task, f"{split}_dataloader")()
    batches = list(loader)
    assert len(batches) == len(loader)
    input, target, mask = task.sequences(split, 0)
    assert sum(int(batch.mask.sum()) for batch in batches) == int(mask.sum())
    for read, batch in (("input", input), ("target", target)):
        total = sum(getattr(b, read)[b.mask].double().sum(0) for b in batches)
        assert torch.equal(total, batch[mask].double().sum(0))
    firsts = [number for batch in batches if batch.is_first for number in numbers(batch)]
    assert sorted(firsts) == list(range(1, 42))
    for batch in batches:
        if chunk_length is None:
            assert batch.mask[-1].any()  # no longer than the longest of them
        assert len(batch.mask) <= (chunk_length or 60)


@pytest.mark.parametrize("chunk_length", [None, 1, 3, 5])
def test_order_is_a_function_of_seed_and_epoch(tunes, chunk_length):
    task = Music(path=tunes, batch_size=4, chunk_length=chunk_length)
    orders, chunks = [], set()
    for epoch in range(4):
        batches = in_epoch(task, epoch)
        again = in_epoch(Music(path=tunes, batch_size=4, chunk_length=chunk_length), epoch)
        assert all(
            torch.equal(one.input, two.input) for one, two in zip(batches, again, strict=True)
        )
        orders.append(tuple(tuple(numbers(batch)) for batch in batches if batch.is_first))
        chunks.add(len(batches))
    other = in_epoch(Music(path=tunes, batch_size=4, chunk_length=chunk_length, seed=1), 0)
    orders.append(tuple(tuple(numbers(batch)) for batch in other if batch.is_first))
    assert len({*orders}) == 5
    assert len({frozenset(map(frozenset, order)) for order in orders}) == 5  # other company, too
    assert len(chunks) == 1  # Lightning asks once how many there are


def test_any_chunks_are_as_many_in_every_order():
    draws = random.Random(5)
    for _ in range(50):
        lengths = torch.tensor([draws.randint(1, 90) for _ in range(draws.randint(1, 40))])
        size, chunk = draws.randint(1, 9), draws.randint(1, 30)
        counts = set()
        for seed in range(4):
            groups = by_length(lengths, size, chunk, torch.Generator().manual_seed(seed))
            assert sorted(torch.cat(groups).tolist()) == list(range(len(lengths)))
            counts.add(sum(-(-int(lengths[group].max()) // chunk) for group in groups))
        assert len(counts) == 1


def test_little_is_padded():
    """Of tunes the longest of which is seven times the mean."""
    draws = random.Random(0)
    lengths = torch.tensor([int(draws.lognormvariate(4.5, 0.5)) + 1 for _ in range(1000)] + [700])
    groups = by_length(lengths, 16, None, torch.Generator().manual_seed(0))
    assert padded_share(groups, lengths) < 0.1
    assert padded_share(list(torch.arange(1001).split(16)), lengths) > 0.45
    assert padded_share([torch.arange(1001)], lengths) > 0.8
    assert padded_share(groups, torch.full((1001,), 9)) == 0


def test_the_loss_over_what_counts_is_that_of_padded_sequences(tunes, tmp_path):
    task = Music(path=tunes)
    summary = quick_run(tmp_path, "dataset=music", f"dataset.path={tunes}", "dataset.batch_size=5")
    assert summary["padded_share"] == pytest.approx(
        padded_share(*Music(path=tunes, batch_size=5).train_dataloader().groups()), abs=1e-4
    )
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    lines = ("dataset=music", f"dataset.path={tunes}", "model.hidden_size=8")
    module = build(config(*lines)).module
    module.load_state_dict(checkpoint["state_dict"])
    input, target, mask = task.sequences("test", 0)
    with torch.no_grad():
        output, _ = module.rnn(input)
        elements = module.loss(module.readout(output), target)
    wanted = (masked_sum(elements, mask) / mask.sum()).item()
    assert summary["metrics"]["test/loss"] == pytest.approx(wanted, rel=1e-6)


def test_a_loader_goes_on_within_an_epoch(tunes):
    task = Music(path=tunes, batch_size=4, chunk_length=3)
    whole = in_epoch(task, 2)
    for stop in range(1, len(whole)):
        loader = at(task, 2).train_dataloader()
        stream = iter(loader)
        for _ in range(stop):
            next(stream)
        again = at(Music(path=tunes, batch_size=4, chunk_length=3), 2).train_dataloader()
        again.load_state_dict(loader.state_dict())
        rest = list(again)
        assert len(rest) == len(whole) - stop
        assert all(torch.equal(a.input, b.input) for a, b in zip(rest, whole[stop:], strict=True))


def test_a_run_in_another_order_is_not_continued(tunes, tmp_path, monkeypatch):
    """Such as one begun before sequences went by their lengths."""
    monkeypatch.setattr(Music, "unequal", False)
    quick_run(tmp_path, "dataset=music", f"dataset.path={tunes}")
    assert "padded_share" not in json.loads((tmp_path / "summary.json").read_text())
    monkeypatch.undo()
    asked = config(*QUICK, "dataset=music", f"dataset.path={tunes}")
    with pytest.raises(ValueError, match=r"data_sha256=.*: the run began with"):
        perform(resumed(asked, tmp_path), tmp_path, job())
