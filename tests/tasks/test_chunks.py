"""From sequences to chunks: nothing lost, nothing repeated, in order."""

from types import SimpleNamespace

import pytest
import torch

from bptt_lab.tasks.base import SequenceBatch, SequenceDataModule, Sequences


class Count(SequenceDataModule):
    """Sequence m reads 100 m, 100 m + 1, ...; epoch e adds 10000 e in training."""

    input_size = output_size = 1
    loss = "mse"

    def __init__(self, num_steps=11, num_sequences=7, batch_size=3, chunk_length=4, seed=0):
        super().__init__(batch_size=batch_size, chunk_length=chunk_length, seed=seed)
        self.shape = num_steps, num_sequences

    def sequences(self, split, epoch):
        num_steps, num_sequences = self.shape
        steps = torch.arange(num_steps)[:, None, None]
        input = 10000.0 * epoch + 100 * torch.arange(num_sequences)[None, :, None] + steps
        return Sequences(input, -input, torch.ones(self.shape, dtype=torch.bool))

    def score(self, prediction, target):
        return {}

    def references(self):
        return {}


class CountStream(Count):
    stream = True


def at(task: Count, epoch: int = 0, rank: int = 0, world: int = 1) -> Count:
    task.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=world)
    return task


def joined(batches: list[SequenceBatch]) -> torch.Tensor:
    """Put chunks behind one another, and sequences side by side, (T, M)."""
    sequences: list[list[torch.Tensor]] = []
    for batch in batches:
        if batch.is_first:
            sequences.append([])
        sequences[-1].append(batch.input[..., 0])
    return torch.cat([torch.cat(chunks) for chunks in sequences], 1)


@pytest.mark.parametrize("chunk_length", [1, 2, 4, 11, 12, None])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 8])
def test_validation_is_cut_and_kept_in_order(chunk_length, batch_size):
    task = Count(chunk_length=chunk_length, batch_size=batch_size)
    loader = task.val_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    assert torch.equal(joined(batches), task.sequences("val", 0).input[..., 0])
    assert all(torch.equal(batch.target, -batch.input) for batch in batches)
    assert all(len(batch.input) <= (chunk_length or 11) for batch in batches)


def test_last_chunk_is_ragged():
    lengths = [len(batch.input) for batch in Count(num_sequences=3).test_dataloader()]
    assert lengths == [4, 4, 3]


def test_training_order_is_new_every_epoch_and_loses_nothing():
    orders = []
    for epoch in (0, 1):
        got = joined(list(at(Count(), epoch).train_dataloader()))
        assert torch.equal(got.sort(1).values, Count().sequences("train", epoch).input[..., 0])
        orders.append((got[0] % 10000).tolist())
        again = joined(list(at(Count(), epoch).train_dataloader()))
        assert torch.equal(got, again)
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_validation_stays_at_epoch_zero():
    batches = list(at(Count(), epoch=5).val_dataloader())
    assert torch.equal(joined(batches), Count().sequences("val", 0).input[..., 0])


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_streams_keep_their_order(epoch):
    task = at(CountStream(num_sequences=6, batch_size=6), epoch)
    batches = list(task.train_dataloader())
    assert [batch.is_first for batch in batches] == [True, False, False]
    assert torch.equal(joined(batches), task.sequences("train", epoch).input[..., 0])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_every_batch(world):
    whole = list(at(Count()).train_dataloader())
    shares = [list(at(Count(), rank=rank, world=world).train_dataloader()) for rank in range(world)]
    assert {len(share) for share in shares} == {len(whole)}
    for batch, *parts in zip(whole, *shares, strict=True):
        got = torch.cat([part.input[:, part.mask.all(0), 0] for part in parts], 1)
        assert torch.equal(got.sort(1).values, batch.input[..., 0].sort(1).values)
        assert all(part.input.shape[1] > 0 for part in parts)


def test_one_loader_follows_the_epochs():
    task = Count()
    loader = task.train_dataloader()
    for epoch in (0, 0, 1, 2):
        at(task, epoch)
        got = joined(list(loader))
        assert torch.equal(got.sort(1).values, task.sequences("train", epoch).input[..., 0])
